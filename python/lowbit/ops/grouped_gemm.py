"""grouped_gemm and its input gradient: one product per expert of a mixture, over rows sorted by expert."""

from typing import Any

import torch
from torch import Tensor

from lowbit.ops import gradient, shapes

_ops = torch.ops.lowbit


def grouped_gemm(
    x: Tensor,
    w: Tensor,
    w_scale: Tensor | None,
    w_zero: Tensor | None,
    offs: Tensor,
    w_format: str,
    *,
    x_scale: Tensor | None = None,
    x_format: str | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
    x_zero: Tensor | None = None,
    x_scale2: Tensor | None = None,
    w_scale2: Tensor | None = None,
    w_table: Tensor | None = None,
    k: int | None = None,
) -> Tensor:
    """`gemm` of rows sorted by expert with the weight of their expert, as `torch._grouped_mm` takes them.

    Args:
        x: `[rows, K]`, as for `gemm`; rows offs[e - 1] .. offs[e] - 1 belong to expert e.
        w: codes of all experts, one more leading dimension: `[experts, bits, N, ceil(K / 32)]`, plain
            `[experts, N, K]`, or prepacked.
        w_scale, w_zero, w_scale2: of w, `[experts, N, groups]`.
        offs: int32 `[experts]`, ascending ends of the experts' rows, the last one all rows. An expert may have none.
        w_format: format string of w.
        bias: float `[experts, N]`.
        others: as for `gemm`.

    Returns:
        `[rows, N]` (complex weights: `[rows, 2 N]`). Differentiable in float x and bias, as `gemm`.

    Raises:
        ValueError: offs is not int32 `[experts]`, not ascending, or does not end at the rows of x.
    """
    op = _ops.grouped_gemm.default
    if gradient.needed(x, bias, w_scale, w_zero, x_scale, x_zero, x_scale2, w_scale2, w_table):
        op = _ops.grouped_gemm.autograd
    return op(
        x,
        w,
        w_scale,
        w_zero,
        offs,
        w_format,
        x_scale=x_scale,
        x_format=x_format,
        bias=bias,
        out_dtype=out_dtype,
        x_zero=x_zero,
        x_scale2=x_scale2,
        w_scale2=w_scale2,
        w_table=w_table,
        k=k,
    )


def grouped_gemm_input_grad(
    dy: Tensor,
    w: Tensor,
    w_scale: Tensor | None,
    w_zero: Tensor | None,
    offs: Tensor,
    w_format: str,
    k: int,
    *,
    w_scale2: Tensor | None = None,
    w_table: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """The gradient of `grouped_gemm` with respect to x: each row of dy times the weight of its expert.

    Args:
        dy: float32, bfloat16 or float16 `[rows, N]`.
        k: columns of the weights.
        out_dtype: float32, bfloat16 or float16; None: that of dy.
        others: as for `grouped_gemm`.

    Returns:
        `[rows, k]`.
    """
    return _ops.grouped_gemm_input_grad.default(
        dy, w, w_scale, w_zero, offs, w_format, k, w_scale2=w_scale2, w_table=w_table, out_dtype=out_dtype
    )


@shapes.register_fake("lowbit::grouped_gemm")
@shapes.register_fake("lowbit::grouped_gemm.autograd")
def _(
    x: Tensor,
    w: Tensor,
    w_scale: Tensor | None,
    w_zero: Tensor | None,
    offs: Tensor,
    w_format: str,
    x_scale: Tensor | None = None,
    x_format: str | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
    x_zero: Tensor | None = None,
    x_scale2: Tensor | None = None,
    w_scale2: Tensor | None = None,
    w_table: Tensor | None = None,
    k: int | None = None,
) -> Tensor:
    size = shapes.product("grouped_gemm", shapes.lead("grouped_gemm", x, x_format), w, w_scale, w_format)
    return x.new_empty(size, dtype=out_dtype or shapes.out_dtype(x))


@shapes.register_fake("lowbit::grouped_gemm_input_grad")
def _(
    dy: Tensor,
    w: Tensor,
    w_scale: Tensor | None,
    w_zero: Tensor | None,
    offs: Tensor,
    w_format: str,
    k: int,
    *,
    w_scale2: Tensor | None = None,
    w_table: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    complex_weight = shapes.parse("grouped_gemm_input_grad", w_format).is_complex
    return dy.new_empty([dy.size(0), 2 * k if complex_weight else k], dtype=out_dtype or dy.dtype)


_ARGUMENTS = (
    "x",
    "w",
    "w_scale",
    "w_zero",
    "offs",
    "w_format",
    "x_scale",
    "x_format",
    "bias",
    "out_dtype",
    "x_zero",
    "x_scale2",
    "w_scale2",
    "w_table",
    "k",
)
_BIAS = _ARGUMENTS.index("bias")


def _setup(ctx: Any, inputs: tuple[Any, ...]) -> None:
    gradient.refuse("grouped_gemm", _ARGUMENTS, inputs, ("x", "bias"))
    a = dict(zip(_ARGUMENTS, inputs, strict=True))
    ctx.save_for_backward(a["w"], a["w_scale"], a["w_zero"], a["offs"], a["w_scale2"], a["w_table"])
    ctx.w_format, ctx.x_dtype = a["w_format"], a["x"].dtype
    ctx.k = shapes.columns("grouped_gemm", a["x"], a["w_format"])
    ctx.bias_dtype = None if a["bias"] is None else a["bias"].dtype


def _of_bias(dy: Tensor, offs: Tensor, dtype: torch.dtype) -> Tensor:
    experts = torch.searchsorted(offs, torch.arange(dy.size(0), dtype=offs.dtype), right=True)
    sums = dy.new_zeros([offs.size(0), dy.size(1)], dtype=torch.float32)
    return sums.index_add(0, experts, dy.float()).to(dtype)


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    w, w_scale, w_zero, offs, w_scale2, w_table = ctx.saved_tensors
    grads: list[Tensor | None] = [None] * len(_ARGUMENTS)
    if ctx.needs_input_grad[0]:
        grads[0] = _ops.grouped_gemm_input_grad.default(
            dy, w, w_scale, w_zero, offs, ctx.w_format, ctx.k, w_scale2=w_scale2, w_table=w_table, out_dtype=ctx.x_dtype
        )
    if ctx.bias_dtype is not None and ctx.needs_input_grad[_BIAS]:
        grads[_BIAS] = _of_bias(dy, offs, ctx.bias_dtype)
    return tuple(grads)


# all defaults are None; those that have none are always given
gradient.register("grouped_gemm", dict.fromkeys(_ARGUMENTS), 6, _setup, _backward)
