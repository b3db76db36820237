"""QuantLinear: one op call, the right one; and everything a module has to survive."""

import copy
import io
import pickle

import lowbit._C as _C
import pytest
import torch
from lowbit import QuantTensor
from lowbit.nn import QuantLinear, QuantWeight
from torch import nn

PAIRS = [
    ("int4:g16", None, "dequant_gemm"),
    ("uint3:g16", None, "dequant_gemm"),
    ("nf4:g32", None, "dequant_gemm"),
    ("mxfp4", None, "dequant_gemm"),
    ("int8:row", "int8:row", "scaled_gemm"),
    ("int4:g16", "int8:g16", "scaled_gemm"),
    ("float8_e4m3fn:row", "float8_e4m3fn:row", "scaled_gemm"),
    ("nvfp4", "nvfp4", "scaled_gemm"),
]


def layer(format="int4:g16", x_format=None, *, rows=24, cols=52, bias=True, seed=0, **kwargs) -> QuantLinear:
    torch.manual_seed(seed)
    asymmetric = format.startswith("uint")
    weight = QuantTensor.quantize(torch.randn(rows, cols), format, asymmetric=asymmetric)
    offset = nn.Parameter(torch.randn(rows)) if bias else None
    return QuantLinear(QuantWeight(weight), offset, x_format=x_format, **kwargs).requires_grad_(False)


@pytest.mark.parametrize(("format", "x_format", "family"), PAIRS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forward_is_the_product_with_the_dequantized_weight(format, x_format, family, dtype, isa):
    linear = layer(format, x_format)
    x = torch.randn(3, 5, 52).to(dtype)
    got = linear(x)
    assert _C.last_kernel().startswith(family)
    assert got.dtype == dtype
    assert got.shape == (3, 5, 24)
    seen = x.float().reshape(-1, 52)
    if x_format:
        seen = QuantTensor.quantize(seen, x_format).dequantize()
    weight = linear.weight.dequantize()
    want = (seen.double() @ weight.double().T + linear.bias.double()).reshape(3, 5, 24)
    # fp32 sums of K = 52 terms, each off by at most 2^-23 of the sum of magnitudes; bfloat16 results are rounded once
    terms = (seen.double().abs() @ weight.double().abs().T + linear.bias.double().abs()).reshape(3, 5, 24)
    bound = terms * 52 * 2.0**-23 + (0 if dtype == torch.float32 else want.abs() * 2.0**-8)
    if dtype == torch.bfloat16 and not x_format:
        bound = bound + terms * 2.0**-8  # the bf16 dot engine rounds the decoded weights to bfloat16
    assert bool(((got.double() - want).abs() <= bound).all())


def test_rotates_its_input():
    torch.manual_seed(1)
    weight, x, sign = torch.randn(24, 64), torch.randn(5, 64), torch.randint(0, 2, (64,)).float() * 2 - 1
    q = QuantTensor.quantize(torch.ops.lowbit.hadamard(weight, sign=sign), "int8:row")
    linear = QuantLinear(QuantWeight(q), hadamard=64, sign=sign)
    assert float((linear(x) - x @ weight.T).norm() / (x @ weight.T).norm()) < 0.02


@pytest.mark.parametrize("shape", [(0, 52), (2, 0, 52), (52,), (1, 1, 52)])
def test_any_batch(shape):
    assert layer()(torch.randn(shape)).shape == (*shape[:-1], 24)


def test_strided_input():
    linear, x = layer(), torch.randn(7, 60)
    assert torch.equal(linear(x[:, 4:56]), linear(x[:, 4:56].contiguous()))


def test_wrong_width_is_refused():
    with pytest.raises(ValueError, match="gemm: "):
        layer()(torch.randn(3, 53))


def test_holds_one_layout_and_saves_canonical():
    linear = layer(rows=32, cols=64, bias=False)
    tensors = dict(linear.weight.named_buffers())
    assert linear.weight.format == "int4:g16@tile16"
    assert tensors["codes"].numel() == 32 * 64 // 2  # the packed bytes and no other copy
    state = linear.state_dict()
    assert set(state) == {"weight.codes", "weight.scale"}
    assert state["weight.codes"].shape == (4, 32, 2)


def same(a: QuantLinear, b: QuantLinear) -> None:
    x = torch.randn(4, 52)
    assert torch.equal(a(x), b(x))


def test_state_dict_round_trip():
    a, b = layer(seed=0), layer(seed=1)
    b.load_state_dict(a.state_dict())
    assert b.weight.format.endswith("@tile16")
    same(a, b)


def test_load_state_dict_names_what_is_wrong():
    linear = layer()
    state = linear.state_dict()
    with pytest.raises(RuntimeError, match=r"Missing key.*weight\.scale"):
        linear.load_state_dict({k: v for k, v in state.items() if k != "weight.scale"})
    bad = {**state, "weight.scale": torch.full_like(state["weight.scale"], float("nan"))}
    before = linear.weight.dequantize()
    with pytest.raises(RuntimeError, match="scale must be finite"):
        linear.load_state_dict(bad)
    assert torch.equal(linear.weight.dequantize(), before)


def test_copies():
    linear = layer()
    same(linear, copy.deepcopy(linear))
    same(linear, pickle.loads(pickle.dumps(linear)))
    file = io.BytesIO()
    torch.save(linear, file)
    file.seek(0)
    same(linear, torch.load(file, weights_only=False))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_to_dtype_leaves_the_format_alone(dtype):
    linear = layer("nvfp4", hadamard=4, sign=torch.ones(4))
    before = linear.weight.dequantize()
    linear.to(dtype)
    assert linear.weight.scale2.dtype == torch.float32
    assert linear.sign.dtype == torch.float32
    assert linear.bias.dtype == dtype
    assert torch.equal(linear.weight.dequantize(), before)
    if dtype != torch.float64:
        assert linear(torch.randn(2, 52, dtype=dtype)).dtype == dtype


def test_gradients():
    linear = layer()
    x = torch.randn(3, 52, requires_grad=True)
    linear.bias.requires_grad_(True)
    linear(x).square().sum().backward()
    y = linear(x.detach()).detach()
    torch.testing.assert_close(x.grad, 2 * y @ linear.weight.dequantize(), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(linear.bias.grad, 2 * y.sum(0), rtol=1e-5, atol=1e-4)
    with torch.no_grad():
        assert not linear(x).requires_grad
    with torch.inference_mode():
        assert linear(torch.randn(3, 52)).shape == (3, 24)


def test_gradients_through_the_rotation():
    linear = layer("int8:row", cols=64, hadamard=64, bias=False)
    x = torch.randn(3, 64, requires_grad=True)
    linear(x).sum().backward()
    want = torch.ops.lowbit.hadamard(torch.ones(3, 24) @ linear.weight.dequantize(), transpose=True)
    torch.testing.assert_close(x.grad, want, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("format", "x_format"), [("int4:g16", None), ("int8:row", "int8:row")])
def test_compiles_whole(format, x_format):
    linear = layer(format, x_format)
    compiled = torch.compile(linear, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for rows in (3, 5):
            x = torch.randn(rows, 52)
            assert torch.equal(compiled(x), linear(x))


def test_repr_tells_the_formats():
    text = repr(layer("int8:row", "int8:row"))
    assert "x_format=int8:row" in text
    assert "format=int8:row@tile16" in text
