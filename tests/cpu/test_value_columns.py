"""Scales and zero points whose columns lie together, as modules hold those of prepacked weights: the same bits as from
rows, for the few rows of x that read scales where they are and for panels."""

from collections.abc import Iterator

import lowbit  # noqa: F401
import pytest
import torch
from lowbit.nn.weight import QuantWeight
from lowbit.tensor import QuantTensor
from torch import Tensor

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
# format of w, rows, columns, format of x: windows of values that follow each other, groups that are cut into pieces,
# pieces shorter than the groups of w, columns that end within a vector
CASES = (
    ("uint4:g32", 200, 320, "int8:row"),
    ("int4:g16", 136, 2240, "int8:row"),
    ("uint3:g1100", 129, 2300, "int8:row"),
    ("uint4:g64", 150, 256, "int8:g32"),
    ("uint2:g32", 40, 96, "int8:row"),
    ("int8:g64", 131, 192, "uint8:row"),
    ("uint4:g64", 150, 320, None),
    ("ternary:g32", 257, 96, None),
)


def by_columns(values: Tensor | None) -> Tensor | None:
    """The same numbers within columns that begin and end with others."""
    if values is None:
        return None
    rows, cols = values.shape
    poison = float("nan") if values.is_floating_point() else 99
    wide = torch.full((cols, rows + 21), poison, dtype=values.dtype)
    wide[:, 5 : rows + 5] = values.t()
    return wide[:, 5 : rows + 5].t()


def zeros_of(kind: str, shape: torch.Size, g: torch.Generator) -> Iterator[Tensor | None]:
    yield None
    if kind == "unsigned":
        yield torch.randint(0, 9, shape, generator=g).to(torch.uint8)
        yield torch.randint(-40, 40, shape, generator=g).to(torch.int32)
        yield torch.randn(shape, generator=g).half()


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_columns_give_the_bits_of_rows(isa: str, case: tuple[str, int, int, str | None], dtype: torch.dtype) -> None:
    w_format, n, k, x_format = case
    g = torch.Generator().manual_seed(n)
    held = QuantTensor.quantize(torch.randn(n, k, generator=g), w_format)
    codes = torch.ops.lowbit.prepack(held.codes, held.spec.element, k, layout="tile16")
    text = held.spec.with_layout("tile16").text_with_layout
    scale = (0.5 + torch.rand(held.scale.shape, generator=g)).to(dtype)
    x = torch.randn(37, k, generator=g).to(torch.float32 if x_format else dtype)
    for zero in zeros_of(held.spec.kind, scale.shape, g):
        for m in (1, 2, 37):
            args = (x[:m], codes)
            given = {"x_format": x_format, "k": k}
            want = torch.ops.lowbit.gemm(*args, scale, zero, text, **given)
            got = torch.ops.lowbit.gemm(*args, by_columns(scale), by_columns(zero), text, **given)
            assert torch.equal(got, want), (m, zero)


def test_prepacked_weights_hold_columns() -> None:
    """With the shapes, the values and the checkpoint of others."""
    held = QuantTensor.quantize(torch.randn(40, 128), "uint4:g32", asymmetric=True)
    packed = held.prepack()
    assert held.zero is not None
    assert packed.zero is not None
    for part, before in ((packed.scale, held.scale), (packed.zero, held.zero)):
        assert part.shape == before.shape
        assert part.stride() == (1, 40)
        assert torch.equal(part, before)
    saved = packed.state_dict()
    assert all(part.is_contiguous() for part in saved.values())
    assert packed.canonical().scale.is_contiguous()
    other = held.prepack("mma64")
    assert other.scale.is_contiguous()
    assert other.zero is not None
    assert other.zero.is_contiguous()


def test_many_scales_stay_in_rows() -> None:
    held = QuantTensor.quantize(torch.randn(1025, 1024), "int4:g16")
    packed = held.prepack()
    assert packed.scale is not None
    assert packed.scale.is_contiguous()


def test_other_devices_hold_rows() -> None:
    held = QuantTensor.quantize(torch.randn(40, 128), "uint4:g32", asymmetric=True).prepack()
    linear = QuantWeight(held)
    for part in (held.to("meta").scale, held.to("meta").zero, linear.to("meta").scale, linear.zero):
        assert part is not None
        assert part.is_contiguous()
    assert held.to("cpu").scale is held.scale
