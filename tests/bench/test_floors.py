"""The least time of a row, by hand."""

import floors
import pytest

Rates = dict[str, dict[int, float]]
SHAPE = (128, 4096, 4096)
OPERATIONS = 2 * 128 * 4096 * 4096


@pytest.mark.parametrize(
    ("weight", "activation", "name", "seconds"),
    [
        ("int4:g128", "int8:row", "int8_dot", OPERATIONS / 400e9),
        ("int4:g128", "bf16", "bf16_dot", OPERATIONS / 200e9),
        ("int4:g128", "fp16", "fp32_fma", OPERATIONS / 100e9),
        ("int4:g128", "fp32", "fp32_fma", OPERATIONS / 100e9),
        ("float8_e4m3fn:row", "float8_e4m3fn:row", "bf16_dot", OPERATIONS / 200e9),
        ("mxfp4", "mxfp4", "int8_dot", OPERATIONS / 400e9),
        ("mxfp8_e4m3", "mxfp8_e4m3", "bf16_dot", OPERATIONS / 200e9),
        # one popcount for each pair of planes: four pairs are as quick as 5/4 of an int8 product, sixteen are slower
        ("bipolar1:row", "bipolar1:row", "popcount", OPERATIONS / 2000e9),
        ("int2:row", "int2:row", "popcount", 4 * OPERATIONS / 2000e9),
        ("int4:row", "int4:row", "int8_dot", OPERATIONS / 400e9),
        ("ternary:row", "int8:row", "int8_dot", OPERATIONS / 400e9),
    ],
)
def test_compute_bound(weight: str, activation: str, name: str, seconds: float, rates: Rates) -> None:
    floor = floors.product(SHAPE, 8 << 20, weight, activation, 20e9, rates, 1)
    assert floor.bound == name
    assert floor.seconds == pytest.approx(seconds)
    assert floor.fraction(2 * seconds) == pytest.approx(0.5)


def test_memory_bound_at_one_row(rates: Rates) -> None:
    floor = floors.product((1, 4096, 4096), 8 << 20, "int4:g128", "int8:row", 20e9, rates, 1)
    assert floor == floors.Floor((8 << 20) / 20e9, "memory")


def test_threads_have_their_own_peak(rates: Rates) -> None:
    one, two = (floors.product(SHAPE, 1, "int4:row", "int8:row", 20e9, rates, t) for t in (1, 2))
    assert one.seconds == pytest.approx(2 * two.seconds)


def test_without_avx512(rates: Rates) -> None:
    floor = floors.product(SHAPE, 1, "bipolar1:row", "bipolar1:row", 20e9, rates, 1, isa="avx2")
    assert floor.bound == "int8_dot_avx2"
    assert floors.available("bf16_dot", rates, "avx2") == "fp32_fma_avx2"
    lacking = {name: of for name, of in rates.items() if name != "bf16_dot"}
    assert floors.available("bf16_dot", lacking, "avx512") == "fp32_fma"
    with pytest.raises(ValueError, match="instruction must be one that was measured, got int8_dot"):
        floors.available("int8_dot", {"popcount": {1: 1.0}}, "avx512")


def test_contenders_with_tiles(rates: Rates) -> None:
    tiles = rates | {"amx_int8": {1: 3200e9}}
    assert floors.product(SHAPE, 1, "int4:row", "int8", 20e9, tiles, 1, tiles=True).bound == "amx_int8"
    assert floors.product(SHAPE, 1, "int4:row", "int8", 20e9, tiles, 1).bound == "int8_dot"
    assert floors.product(SHAPE, 1, "int4:row", "bf16", 20e9, tiles, 1, tiles=True).bound == "bf16_dot"


def test_transform(rates: Rates) -> None:
    assert floors.transform(1024, 1 << 20, 1.0, rates, 1) == floors.Floor(1.0, "memory")
    floor = floors.transform(1024, 1 << 20, 1e-9, rates, 1)
    assert floor.bound == "fp32_fma"
    # an addition takes the place of an FMA, which counts two operations
    assert floor.seconds == pytest.approx(10 * (1 << 20) / 50e9)
