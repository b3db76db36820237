"""gemm: the front door. Looks at formats, shape and device and goes to one of the three GEMM families."""

from typing import Any

import torch
from torch import Tensor

from lowbit.ops import gradient, shapes

_ops = torch.ops.lowbit


def gemm(
    x: Tensor,
    w: Tensor,
    w_scale: Tensor | None,
    w_zero: Tensor | None,
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
    out: Tensor | None = None,
) -> Tensor:
    """`x w^T + bias` with a low-bit weight: `torch.nn.functional.linear` for every format of lowbit.

    The activations decide the family: floats without `x_format` go to `dequant_gemm`; codes with `x_format`, and floats
    that are to be quantized on the way, to `bitplane_gemm` or `scaled_gemm`. The arithmetic is that of the family.

    Args:
        x: float32, bfloat16 or float16 `[..., K]`; or codes of `x_format`, canonical or plain.
        w: codes of the N x K weight: canonical, plain, or prepacked with "@tile16" in the format (tiles are padded:
            w_scale must be `[N, groups]`, or of blocks of rows or one for all, N being a multiple of 16).
        w_scale, w_zero, w_scale2: scales, zero points, scales of the scales of w.
        w_format: format string of w, as in "int4:g64" or "nvfp4".
        x_scale, x_zero, x_scale2: those of x. With float x and no x_scale, scales are computed (dynamic quantization).
        x_format: format string of x, as in "int8" (one scale a row) or "mxfp8_e4m3"; None: x is used as it is.
        bias: float `[N]`.
        out_dtype: float32, bfloat16 or float16; None: that of float x, float32 for codes.
        w_table: float32 `[2^bits]` ascending, the values of "table<bits>".
        k: columns, needed when x is packed codes.
        out: where the result goes; it may not share memory with an argument.

    Returns:
        `[..., N]` (complex weights: `[..., 2 N]`). Differentiable in float x and bias. When x is quantized on the way
        its gradient passes the rounding unchanged (straight-through estimator, Bengio et al. 2013): dx = dy w.

    Raises:
        ValueError: K of x does not fit the packed weight, a scale is missing, an argument requires a gradient that does
            not exist.
    """
    if out is not None:
        _ops.gemm.out(
            x,
            w,
            w_scale,
            w_zero,
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
            out=out,
        )
        return out
    op = _ops.gemm.default
    if gradient.needed(x, bias, w_scale, w_zero, x_scale, x_zero, x_scale2, w_scale2, w_table):
        op = _ops.gemm.autograd
    return op(
        x,
        w,
        w_scale,
        w_zero,
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


@shapes.register_fake("lowbit::gemm")
@shapes.register_fake("lowbit::gemm.autograd")
def _(
    x: Tensor,
    w: Tensor,
    w_scale: Tensor | None,
    w_zero: Tensor | None,
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
    size = shapes.product("gemm", shapes.lead("gemm", x, x_format), w, w_scale, w_format)
    return x.new_empty(size, dtype=out_dtype or shapes.out_dtype(x))


@shapes.register_fake("lowbit::gemm.out")
def _(
    x: Tensor,
    w: Tensor,
    w_scale: Tensor | None,
    w_zero: Tensor | None,
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
    out: Tensor,
) -> None:
    return None


_ARGUMENTS = (
    "x",
    "w",
    "w_scale",
    "w_zero",
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
    gradient.refuse("gemm", _ARGUMENTS, inputs, ("x", "bias"))
    a = dict(zip(_ARGUMENTS, inputs, strict=True))
    ctx.save_for_backward(a["w"], a["w_scale"], a["w_zero"], a["w_scale2"], a["w_table"])
    ctx.w_format, ctx.x_dtype = a["w_format"], a["x"].dtype
    ctx.k = shapes.columns("gemm", a["x"], a["w_format"])
    ctx.bias_dtype = None if a["bias"] is None else a["bias"].dtype


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    w, w_scale, w_zero, w_scale2, w_table = ctx.saved_tensors
    grads: list[Tensor | None] = [None] * len(_ARGUMENTS)
    if ctx.needs_input_grad[0]:
        grads[0] = _ops.dequant_gemm_input_grad.default(
            dy, w, w_scale, w_zero, ctx.w_format, ctx.k, w_scale2=w_scale2, w_table=w_table, out_dtype=ctx.x_dtype
        )
    if ctx.bias_dtype is not None and ctx.needs_input_grad[_BIAS]:
        grads[_BIAS] = gradient.of_bias(dy, ctx.bias_dtype)
    return tuple(grads)


# all defaults are None; those that have none are always given
gradient.register("gemm", dict.fromkeys(_ARGUMENTS), 5, _setup, _backward)
