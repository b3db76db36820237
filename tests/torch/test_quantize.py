"""quantize, dequantize, embedding as ops: shapes, layouts, errors."""

import lowbit  # noqa: F401
import pytest
import torch

ops = torch.ops.lowbit

FORMATS = ["int8", "int4:g32", "ternary:g16", "bipolar2", "float8_e4m3fn:b2x16", "float6_e2m3fn:g8", "nf4:g64"]
CODED = ["mxfp4", "mxint8", "nvfp4", "uint2:g16/uint4:g16", "int4:g32/float8_e8m0fnu"]


@pytest.mark.parametrize("format", FORMATS + CODED)
@pytest.mark.parametrize("layout", ["canonical", "plain", "tile16"])
def test_opcheck(format, layout):
    x = torch.randn(2, 5, 37)[:, :, 1:]
    torch.library.opcheck(
        ops.quantize.default, (x, format), {"layout": layout}, test_utils=("test_schema", "test_faketensor")
    )


@pytest.mark.parametrize("format", FORMATS + CODED)
def test_layouts_hold_the_same_values(format):
    torch.manual_seed(0)
    x = torch.randn(2, 5, 36)
    values = []
    for layout in ("canonical", "plain", "tile16"):
        if layout == "tile16" and "b2x16" in format:
            continue
        codes, scale, _, scale2 = ops.quantize(x, format, layout=layout)
        two = scale2 if scale2.numel() else None
        values.append(ops.dequantize(codes, scale, None, f"{format}@{layout}", 36, scale2=two))
    assert all(torch.equal(v, values[0]) for v in values)
