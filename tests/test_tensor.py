"""QuantTensor: bits, layouts, round trips, and what it refuses."""

import lowbit
import pytest
import torch
from lowbit import QuantTensor

FORMATS = [
    "int4:g64",
    "int8:row",
    "int3:g16",
    "int1",
    "bipolar2:g32",
    "ternary:g32",
    "nf4:g64",
    "float8_e4m3fn",
    "float6_e2m3fn:g8",
    "float5_e2m2fn:g7",
    "mxfp8_e4m3",
    "mxfp4",
    "mxint8",
    "nvfp4",
    "nvint4",
    "uint2:g16/uint4:g16",
    "int4:tensor",
    "float8_e4m3fn:b4x16",
]


def made(format: str, rows: int = 19, cols: int = 70) -> QuantTensor:
    x = torch.randn(rows, cols, generator=torch.Generator().manual_seed(rows * cols))
    return QuantTensor.quantize(x, format)


@pytest.mark.parametrize("format", FORMATS)
def test_round_trips(format):
    q = made(format)
    values = q.dequantize()
    assert values.shape == (19, 70)
    back = QuantTensor.from_state_dict(q.state_dict(), **q.metadata())
    assert torch.equal(back.dequantize(), values)
    again = QuantTensor.from_codes(q.unpacked(), format, q.scale, zero=q.zero, scale2=q.scale2)
    assert torch.equal(again.codes, q.codes)
    packed = q.prepack()
    assert torch.equal(packed.dequantize(), values)
    assert torch.equal(packed.canonical().codes, q.codes)
    assert packed.prepack() is packed
    assert q.canonical() is q


@pytest.mark.parametrize("format", ["float8_e4m3fn:b16x32", "int8:tensor", "uint4:b5x32"])
def test_scales_of_several_rows_prepack_where_rows_fill_tiles(format):
    q = made(format, 32, 70)
    packed = q.prepack()
    assert packed.layout == "tile16"
    assert torch.equal(packed.dequantize(), q.dequantize())
    back = QuantTensor.from_state_dict(packed.state_dict(), **packed.metadata())
    assert torch.equal(back.codes, q.codes)
    assert torch.equal(back.scale, q.scale)
    assert made(format, 40, 70).prepack().layout == "canonical"


def test_prepacked_holds_no_canonical_codes():
    q = made("int4:g64", 32, 128)
    packed = q.prepack()
    assert packed.layout == "tile16"
    assert packed.codes.numel() * packed.codes.element_size() == 32 * 128 * 4 // 8
    assert set(packed.state_dict()) == {"codes", "scale"}
    assert torch.equal(packed.state_dict()["codes"], q.codes)


@pytest.mark.parametrize(
    ("format", "bits"),
    [
        ("int4:g64", 4 + 32 / 64),
        ("int8:row", 8 + 32 / 128),
        ("mxfp4", 4 + 8 / 32),
        ("nvfp4", 4 + 8 / 16 + 32 / (64 * 128)),
        ("uint2:g16/uint4:g4", 2 + 4 * 4 / 16 / 1 + 32 / 64),
        ("float6_e2m3fn:row", 6 + 32 / 128),
    ],
)
def test_bits_count_everything(format, bits):
    q = made(format, 64, 128)
    parts = sum(t.numel() * t.element_size() for t in q.state_dict().values())
    assert q.nbytes == parts
    assert q.bits == q.prepack().bits == 8 * parts / (64 * 128)
    if not format.startswith("uint2"):  # its 8 scales a row fill 4 planes of one word each
        assert q.bits == bits


def test_zero_points_count():
    x = torch.randn(64, 128)
    q = QuantTensor.quantize(x, "uint4:g64", asymmetric=True, scale_dtype=torch.float16)
    assert q.bits == 4 + (16 + 8) / 64


@pytest.mark.parametrize("shape", [(0, 8), (3, 1), (1, 33)])
def test_odd_shapes(shape):
    q = QuantTensor.quantize(torch.randn(shape), "int4:g64")
    assert q.dequantize().shape == shape
    assert q.prepack().canonical().dequantize().shape == shape


def test_to_keeps_dtypes():
    q = QuantTensor.quantize(torch.randn(4, 64), "int4:g64", scale_dtype="float16")
    assert q.to("cpu").scale.dtype == torch.float16


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_refuses_values_that_are_not_finite(bad):
    x = torch.randn(4, 64)
    x[1, 2] = bad
    with pytest.raises(ValueError, match="QuantTensor: x must be finite"):
        QuantTensor.quantize(x, "int4:g64")
    q = made("int4:g64")
    state = q.state_dict()
    state["scale"][3, 0] = bad
    with pytest.raises(ValueError, match="QuantTensor: scale must be finite"):
        QuantTensor.from_state_dict(state, **q.metadata())


def test_refuses_codes_that_are_no_numbers():
    fp8 = made("float8_e4m3fn")
    state = fp8.state_dict()
    state["codes"] = state["codes"].clone()
    state["codes"][5, 6] = 0x7F
    with pytest.raises(ValueError, match="code 127 in row 5, column 6"):
        QuantTensor.from_state_dict(state, **fp8.metadata())
    mx = made("mxfp4")
    state = {**mx.state_dict(), "scale": torch.full_like(mx.scale, 255)}
    with pytest.raises(ValueError, match="scale must be numbers of float8_e8m0fnu, got code 255"):
        QuantTensor.from_state_dict(state, **mx.metadata())
    ternary = made("ternary:g32")
    state = ternary.state_dict()
    state["codes"] = state["codes"].clone()
    state["codes"][0, 2, 1] |= 1 << 7
    state["codes"][1, 2, 1] &= ~(1 << 7)
    with pytest.raises(ValueError, match="code 2 in row 2, column 39"):
        QuantTensor.from_state_dict(state, **ternary.metadata())
    with pytest.raises(ValueError, match="codes must be"):
        QuantTensor.from_codes(torch.full((2, 3), 9, dtype=torch.uint8), "int3", torch.ones(2, 1))


def test_refuses_bits_in_the_padding():
    q = made("int4:g64")
    state = q.state_dict()
    state["codes"] = state["codes"].clone()
    state["codes"][0, 0, -1] |= 1 << 20
    with pytest.raises(ValueError, match="zero past the last column"):
        QuantTensor.from_state_dict(state, **q.metadata())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"codes": torch.zeros(4, 19, 2, dtype=torch.int32)}, r"codes must be torch.int32 \[4, 19, 3\]"),
        ({"codes": torch.zeros(4, 19, 3)}, "codes must be torch.int32"),
        ({"scale": torch.ones(19, 1)}, r"scale must be \[19, 2\]"),
        ({"scale": torch.ones(19, 2, dtype=torch.float64)}, "scale must be one of"),
        ({"zero": torch.zeros(2, 19)}, r"zero must be \[19, 2\]"),
        ({"scale2": torch.ones(1)}, "scale2 must be None"),
        ({"table": torch.ones(16)}, "table must be None"),
        ({"odd": torch.ones(16)}, "state_dict must be made of"),
    ],
)
def test_refuses_parts_that_do_not_fit(change, sentence):
    q = made("int4:g64")
    with pytest.raises(ValueError, match=sentence):
        QuantTensor.from_state_dict(q.state_dict() | change, **q.metadata())


def test_refuses_missing_parts():
    q = made("nvfp4")
    for part, sentence in (
        ("codes", 'with "codes"'),
        ("scale", "scale must be given"),
        ("scale2", "scale2 must be given"),
    ):
        state = q.state_dict()
        del state[part]
        with pytest.raises(ValueError, match=sentence):
            QuantTensor.from_state_dict(state, **q.metadata())


def test_refuses_a_vector_and_a_typo():
    with pytest.raises(ValueError, match="x must be a matrix"):
        QuantTensor.quantize(torch.randn(4), "int4")
    with pytest.raises(ValueError, match='did you mean "int4"'):
        QuantTensor.quantize(torch.randn(4, 4), "imt4")


def test_codebook():
    table = torch.tensor([-2.0, -0.5, 0.25, 1.0])
    q = QuantTensor.quantize(torch.randn(8, 40), "table2:g8", table=table)
    assert set((q.dequantize() / q.scale.repeat_interleave(8, 1)).round(decimals=4).unique().tolist()) <= set(
        table.tolist()
    )
    back = QuantTensor.from_state_dict(q.state_dict(), **q.metadata())
    assert torch.equal(back.dequantize(), q.dequantize())
    assert lowbit.QuantTensor is QuantTensor
