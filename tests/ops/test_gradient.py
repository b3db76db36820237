"""Gradients of activations and bias: float64 products with the dequantized weight, and the adjoint identity."""

from collections.abc import Callable

import lowbit
import pytest
import torch
from torch import Tensor

FORMATS = [
    "int3:g32",
    "uint4:g16",
    "nf4:g64",
    "float6_e3m2fn",
    "mxfp4",
    "nvfp4",
    "int8:tensor",
    "ternary:g32",
    "bipolar2",
]
SHAPES = [(1, 1, 1), (5, 7, 33), (4, 3, 19, 72)]  # leading dimensions, N, K
UNIT = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


def random(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


class Weight:
    """A quantized n x k matrix (of several experts) and its exact values in float64."""

    def __init__(self, format: str, *size: int) -> None:
        self.format, self.k = format, size[-1]
        asymmetric = format.startswith("uint")
        self.codes, self.scale, zero, scale2 = lowbit.ops.quantize(random(*size, seed=1), format, asymmetric=asymmetric)
        self.zero = zero if zero.numel() else None
        self.scale2 = scale2 if scale2.numel() else None
        self.values = lowbit.ops.dequantize(*self.args, format, self.k, scale2=self.scale2).double()

    @property
    def args(self) -> tuple[Tensor, Tensor, Tensor | None]:
        return self.codes, self.scale, self.zero


def assert_within(got: Tensor, exact: Tensor, magnitude: Tensor, terms: int) -> None:
    """`terms` products summed in float32: a term takes part in at most terms - 1 additions, is rounded once as a
    product and twice with its scale (as are the exact values, by dequantize); `magnitude` is the sum of the absolute
    values. Then one rounding to the dtype of the result, float16 with a least quantum of 2^-24."""
    gamma = (terms + 6) * UNIT[torch.float32] / (1 - (terms + 6) * UNIT[torch.float32])
    error = gamma * magnitude
    bound = error + UNIT[got.dtype] * (exact.abs() + error) + 2.0**-24 * (got.dtype == torch.float16)
    assert (got.double() - exact).abs().le(bound).all()


def products(weight: Weight, dy: Tensor) -> tuple[Tensor, Tensor]:
    return dy.double() @ weight.values, dy.double().abs() @ weight.values.abs()


@pytest.mark.parametrize("dtype", list(UNIT))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("op", [lowbit.ops.gemm, lowbit.ops.dequant_gemm])
def test_gemm_gradients(op: Callable[..., Tensor], format: str, shape: tuple[int, ...], dtype: torch.dtype):
    *lead, n, k = shape
    weight = Weight(format, n, k)
    x = random(*lead, k).to(dtype).requires_grad_()
    bias = random(n).to(dtype).requires_grad_()
    y = op(x, *weight.args, format, w_scale2=weight.scale2, bias=bias)
    dy = random(*lead, n, seed=2).to(dtype)
    dx, db = torch.autograd.grad(y, [x, bias], dy)
    assert dx.dtype == db.dtype == dtype
    assert_within(dx, *products(weight, dy), terms=n)
    rows = dy.double().reshape(-1, n)
    assert_within(db, rows.sum(0), rows.abs().sum(0), terms=rows.size(0))


def test_strided_gradients_and_strided_activations():
    weight = Weight("int4:g16", 11, 40)
    x = random(6, 40).t().contiguous().t().requires_grad_()
    dy = random(11, 6).t()
    (dx,) = torch.autograd.grad(lowbit.ops.gemm(x, *weight.args, "int4:g16"), x, dy)
    assert_within(dx, *products(weight, dy), terms=11)
    (expanded,) = torch.autograd.grad(lowbit.ops.gemm(x, *weight.args, "int4:g16").sum(), x)
    assert_within(expanded, *products(weight, torch.ones(6, 11)), terms=11)


def test_gradients_of_no_rows():
    weight = Weight("int4:g16", 11, 40)
    x, bias = torch.empty(0, 40, requires_grad=True), torch.zeros(11, requires_grad=True)
    dx, db = torch.autograd.grad(lowbit.ops.gemm(x, *weight.args, "int4:g16", bias=bias).sum(), [x, bias])
    assert dx.shape == (0, 40)
    assert torch.equal(db, torch.zeros(11))


def test_prepacked_weights_have_the_same_gradient(isa: str):
    weight = Weight("int5:g32", 21, 67)
    tiles = lowbit.ops.prepack(weight.codes, weight.format, weight.k)
    x, dy = random(3, 67).requires_grad_(), random(3, 21, seed=3)
    (dx,) = torch.autograd.grad(lowbit.ops.gemm(x, tiles, weight.scale, None, "int5:g32@tile16"), x, dy)
    assert_within(dx, *products(weight, dy), terms=21)


def test_mixed_widths_and_outliers_have_gradients():
    wide, narrow = Weight("uint4:g16", 5, 16), Weight("uint2:g16", 5, 32)

    def join(low: Tensor, high: Tensor) -> Tensor:  # the middle of three groups is the wide one
        half = low.size(1) // 2
        return torch.cat([low[:, :half], high, low[:, half:]], 1)

    values = join(narrow.values, wide.values)
    outliers = random(2).bfloat16()
    values[1, 40] += outliers[0].double()
    values[4, 0] += outliers[1].double()
    x, dy = random(3, 48).requires_grad_(), random(3, 5, seed=4)
    y = lowbit.ops.dequant_gemm(
        x,
        narrow.codes,
        join(narrow.scale, wide.scale),
        join(narrow.zero, wide.zero),
        "uint2:g16",
        w_high=wide.codes,
        high_groups=torch.tensor([1], dtype=torch.int32),
        outlier_offsets=torch.tensor([0, 0, 1, 1, 1, 2], dtype=torch.int32),
        outlier_cols=torch.tensor([40, 0], dtype=torch.int32),
        outlier_values=outliers,
    )
    (dx,) = torch.autograd.grad(y, x, dy)
    assert_within(dx, dy.double() @ values, dy.double().abs() @ (values.abs() + 2 * outliers.abs().max()), terms=7)


@pytest.mark.parametrize("x_format", ["int8", "int4:g16", "mxfp8_e4m3"])
def test_quantized_activations_pass_the_gradient_straight_through(x_format: str):
    weight = Weight("int4:g16", 9, 32)
    x, dy = random(5, 32).requires_grad_(), random(5, 9, seed=5)
    y = lowbit.ops.gemm(x, *weight.args, "int4:g16", x_format=x_format)
    (dx,) = torch.autograd.grad(y, x, dy)
    assert_within(dx, *products(weight, dy), terms=9)


def test_codes_as_activations_leave_the_gradient_of_bias():
    weight = Weight("int4:g16", 9, 32)
    x, bias = torch.ones(3, 32, dtype=torch.int8), torch.zeros(9, requires_grad=True)
    y = lowbit.ops.gemm(x, *weight.args, "int4:g16", x_format="int8", bias=bias)
    (db,) = torch.autograd.grad(y.sum(), bias)
    assert torch.equal(db, torch.full([9], 3.0))


def test_complex_weights_have_the_gradient_of_their_conjugate():
    codes = torch.randint(0, 4, (5, 12), generator=torch.Generator().manual_seed(3)).to(torch.uint8)
    scale = random(5, 1, seed=2).abs() + 0.5
    w = torch.view_as_complex(lowbit.ops.dequantize(codes, scale, None, "complex2", 12)).to(torch.complex128)
    x, dy = random(3, 24).requires_grad_(), random(3, 10, seed=3)
    y = lowbit.ops.gemm(x, codes, scale, None, "complex2")
    (dx,) = torch.autograd.grad(y, x, dy)

    def check(got: Tensor, exact: Tensor, given: Tensor) -> None:
        largest = given.abs().sum(-1, keepdim=True).double() * scale.max()  # |w| is at most the largest scale
        assert_within(got.detach(), torch.cat([exact.real, exact.imag], -1), largest, terms=given.size(-1))

    check(y, torch.complex(*x.detach().double().split(12, -1)) @ w.t(), x.detach())
    check(dx, torch.complex(*dy.double().split(5, -1)) @ w.conj(), dy)


@pytest.mark.parametrize("ends", [[2, 2, 7], [7, 7, 7], [0, 0, 7], [1, 4, 7]])
@pytest.mark.parametrize("dtype", list(UNIT))
def test_grouped_gradients(ends: list[int], dtype: torch.dtype):
    weight = Weight("int4:g16", 3, 6, 40)
    x, bias = random(7, 40).to(dtype).requires_grad_(), random(3, 6).to(dtype).requires_grad_()
    offs = torch.tensor(ends, dtype=torch.int32)
    y = lowbit.ops.grouped_gemm(x, *weight.args, offs, "int4:g16", bias=bias)
    dy = random(7, 6, seed=6).to(dtype)
    dx, db = torch.autograd.grad(y, [x, bias], dy)
    begin = 0
    for e, end in enumerate(ends):
        rows = dy[begin:end].double()
        assert_within(dx[begin:end], rows @ weight.values[e], rows.abs() @ weight.values[e].abs(), terms=6)
        assert_within(db[e], rows.sum(0), rows.abs().sum(0), terms=7)
        begin = end


@pytest.mark.parametrize(("width", "block"), [(24, 0), (24, 12), (64, 16)])
@pytest.mark.parametrize("transpose", [False, True])
def test_hadamard_gradient_is_the_transposed_transform(width: int, block: int, transpose: bool):
    sign = random(block or width, seed=7).sign()
    x = random(2, 3, width).requires_grad_()
    y = lowbit.ops.hadamard(x, block=block, sign=sign, scale=0.5, transpose=transpose)
    dy = random(2, 3, width, seed=8).requires_grad_()
    (dx,) = torch.autograd.grad(y, x, dy, create_graph=True)
    with torch.no_grad():
        expected = lowbit.ops.hadamard(dy, block=block, sign=sign, scale=0.5, transpose=not transpose)
    assert torch.equal(dx, expected)
    # twice differentiable: the derivative of dx by dy is the transform itself
    (again,) = torch.autograd.grad(dx, dy, x.detach())
    assert torch.equal(again, y)


def test_the_gradient_is_the_adjoint_of_the_product():
    """<dy, W v> = <dx, v>: both sides are sums of the same n k products, the inner ones rounded to float32."""
    weight = Weight("int3:g32", 13, 90)
    v, dy = random(4, 90).requires_grad_(), random(4, 13, seed=9)
    y = lowbit.ops.dequant_gemm(v, *weight.args, "int3:g32")
    (dx,) = torch.autograd.grad(y, v, dy)
    magnitude = (dy.double().abs() @ weight.values.abs() * v.detach().double().abs()).sum()
    difference = (dy.double() * y.double()).sum() - (dx.double() * v.double()).sum()
    assert difference.abs() <= (13 + 90 + 8) * UNIT[torch.float32] * magnitude


def test_inference_takes_the_default_overload():
    weight = Weight("int4:g16", 9, 32)
    x = random(5, 32).requires_grad_()
    with torch.no_grad():
        assert lowbit.ops.gemm(x, *weight.args, "int4:g16").grad_fn is None
    with torch.inference_mode():
        assert not lowbit.ops.gemm(x, *weight.args, "int4:g16").requires_grad
    assert not lowbit.ops.gemm(x.detach(), *weight.args, "int4:g16").requires_grad
    assert "gemm_autograd" in lowbit.ops.gemm(x, *weight.args, "int4:g16").grad_fn.name()
    # the plain name is the default overload, also where a gradient would be needed
    grad_fn = torch.ops.lowbit.gemm(x, *weight.args, "int4:g16").grad_fn
    assert grad_fn is None or "gemm" not in grad_fn.name()


@pytest.mark.parametrize("name", ["w_scale", "w_zero"])
def test_gradients_that_do_not_exist_are_refused(name: str):
    weight = Weight("uint4:g16", 9, 32)
    args = {"w_scale": weight.scale, "w_zero": weight.zero.float()}
    args[name].requires_grad_()
    for op in (lowbit.ops.gemm, lowbit.ops.dequant_gemm):
        with pytest.raises(ValueError, match=rf"{op.__name__}: {name} must not require a gradient.*{name}\.detach"):
            op(random(2, 32), weight.codes, args["w_scale"], args["w_zero"], "uint4:g16")


def test_a_second_derivative_of_gemm_is_refused():
    weight = Weight("int4:g16", 9, 32)
    x, dy = random(5, 32).requires_grad_(), random(5, 9).requires_grad_()
    (dx,) = torch.autograd.grad(lowbit.ops.gemm(x, *weight.args, "int4:g16"), x, dy, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()
