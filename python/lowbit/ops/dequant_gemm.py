"""dequant_gemm and its input gradient: low-bit weights times 32/16-bit activations."""

from typing import Any

import torch
from torch import Tensor

from lowbit.ops import gradient, shapes

_ops = torch.ops.lowbit


def dequant_gemm(
    x: Tensor,
    w: Tensor,
    w_scale: Tensor | None,
    w_zero: Tensor | None,
    w_format: str,
    *,
    w_scale2: Tensor | None = None,
    w_table: Tensor | None = None,
    w_high: Tensor | None = None,
    high_groups: Tensor | None = None,
    outlier_offsets: Tensor | None = None,
    outlier_cols: Tensor | None = None,
    outlier_values: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """`x w^T + bias` of float activations and a weight in 1 to 8 bits, dequantized on the way to the multiplier.

    The weight is never expanded in memory. Sums are float32; nothing is accumulated in 16 bits. Weight-only kernels of
    this kind: Marlin (Frantar et al. 2024); mixed 2/4-bit groups and coded scales: "Enabling Fast 2-bit LLM on GPUs"
    (Li et al. 2023); sparse outliers: SpQR (Dettmers et al. 2023); NF4: QLoRA (Dettmers et al. 2023).

    Args:
        x: float32, bfloat16 or float16 `[..., K]`, any stride.
        w: codes of the N x K weight: canonical, plain, or prepacked with "@tile16" in the format (tiles are padded:
            w_scale must be `[N, groups]`, or of blocks of rows or one for all, N being a multiple of 16).
        w_scale, w_zero: scales and zero points, `[N, groups]`.
        w_format: format string of w, as in "int3:g64", "nf4:g64", "mxfp4", "uint2:g16/uint4:g16".
        w_scale2: float scales of coded scales.
        w_table: float32 `[2^bits]` ascending, the values of "table<bits>".
        w_high: mixed widths: codes of twice the bits of w_format, of the groups in `high_groups`; w holds the other
            groups. Scales and zero points are those of all groups in order.
        high_groups: int32, ascending indices of the groups that w_high holds.
        outlier_offsets: int32 `[N + 1]`; row r has the outliers offsets[r] .. offsets[r + 1].
        outlier_cols: int32, their columns.
        outlier_values: bfloat16, float16 or float32, added to the dequantized weight.
        bias: float `[N]`.
        out_dtype: float32, bfloat16 or float16; None: that of x.

    Returns:
        `[..., N]`. Differentiable in x (`dequant_gemm_input_grad`) and bias.

    Raises:
        ValueError: K of x does not fit the packed weight, a scale is missing, an argument requires a gradient that does
            not exist (scales, outliers).
    """
    args = (x, w, w_scale, w_zero, w_format)
    if gradient.needed(x, bias, w_scale, w_zero, w_scale2, w_table, outlier_values):
        return _ops.dequant_gemm.autograd(
            *args,
            w_scale2,
            w_table,
            w_high,
            high_groups,
            outlier_offsets,
            outlier_cols,
            outlier_values,
            bias,
            out_dtype,
        )
    return _ops.dequant_gemm.default(
        *args,
        w_scale2=w_scale2,
        w_table=w_table,
        w_high=w_high,
        high_groups=high_groups,
        outlier_offsets=outlier_offsets,
        outlier_cols=outlier_cols,
        outlier_values=outlier_values,
        bias=bias,
        out_dtype=out_dtype,
    )


def dequant_gemm_input_grad(
    dy: Tensor,
    w: Tensor,
    w_scale: Tensor | None,
    w_zero: Tensor | None,
    w_format: str,
    k: int,
    *,
    w_scale2: Tensor | None = None,
    w_table: Tensor | None = None,
    w_high: Tensor | None = None,
    high_groups: Tensor | None = None,
    outlier_offsets: Tensor | None = None,
    outlier_cols: Tensor | None = None,
    outlier_values: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """`dy w`: the gradient of `dequant_gemm` with respect to x.

    Args:
        dy: float32, bfloat16 or float16 `[..., N]`.
        k: columns of w.
        out_dtype: float32, bfloat16 or float16; None: that of dy.
        others: as for `dequant_gemm`.

    Returns:
        `[..., k]`, summed in float32 over n ascending.
    """
    return _ops.dequant_gemm_input_grad.default(
        dy,
        w,
        w_scale,
        w_zero,
        w_format,
        k,
        w_scale2=w_scale2,
        w_table=w_table,
        w_high=w_high,
        high_groups=high_groups,
        outlier_offsets=outlier_offsets,
        outlier_cols=outlier_cols,
        outlier_values=outlier_values,
        out_dtype=out_dtype,
    )


@shapes.register_fake("lowbit::dequant_gemm")
@shapes.register_fake("lowbit::dequant_gemm.autograd")
def _(
    x: Tensor,
    w: Tensor,
    w_scale: Tensor | None,
    w_zero: Tensor | None,
    w_format: str,
    w_scale2: Tensor | None = None,
    w_table: Tensor | None = None,
    w_high: Tensor | None = None,
    high_groups: Tensor | None = None,
    outlier_offsets: Tensor | None = None,
    outlier_cols: Tensor | None = None,
    outlier_values: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    size = shapes.product("dequant_gemm", list(x.shape[:-1]), w, w_scale, w_format)
    return x.new_empty(size, dtype=out_dtype or x.dtype)


@shapes.register_fake("lowbit::dequant_gemm_input_grad")
def _(
    dy: Tensor,
    w: Tensor,
    w_scale: Tensor | None,
    w_zero: Tensor | None,
    w_format: str,
    k: int,
    *,
    w_scale2: Tensor | None = None,
    w_table: Tensor | None = None,
    w_high: Tensor | None = None,
    high_groups: Tensor | None = None,
    outlier_offsets: Tensor | None = None,
    outlier_cols: Tensor | None = None,
    outlier_values: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    complex_weight = shapes.parse("dequant_gemm_input_grad", w_format).is_complex
    return dy.new_empty([*dy.shape[:-1], 2 * k if complex_weight else k], dtype=out_dtype or dy.dtype)


_ARGUMENTS = (
    "x",
    "w",
    "w_scale",
    "w_zero",
    "w_format",
    "w_scale2",
    "w_table",
    "w_high",
    "high_groups",
    "outlier_offsets",
    "outlier_cols",
    "outlier_values",
    "bias",
    "out_dtype",
)
_BIAS = _ARGUMENTS.index("bias")


def _setup(ctx: Any, inputs: tuple[Any, ...]) -> None:
    gradient.refuse("dequant_gemm", _ARGUMENTS, inputs, ("x", "bias"))
    x, w, w_scale, w_zero, ctx.w_format, *rest, bias, _ = inputs
    ctx.save_for_backward(w, w_scale, w_zero, *rest)
    ctx.k, ctx.x_dtype = shapes.columns("dequant_gemm", x, ctx.w_format), x.dtype
    ctx.bias_dtype = None if bias is None else bias.dtype


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    names = _ARGUMENTS[5:_BIAS]
    w, w_scale, w_zero, *rest = ctx.saved_tensors
    grads: list[Tensor | None] = [None] * len(_ARGUMENTS)
    if ctx.needs_input_grad[0]:
        grads[0] = _ops.dequant_gemm_input_grad.default(
            dy, w, w_scale, w_zero, ctx.w_format, ctx.k, out_dtype=ctx.x_dtype, **dict(zip(names, rest, strict=True))
        )
    if ctx.bias_dtype is not None and ctx.needs_input_grad[_BIAS]:
        grads[_BIAS] = gradient.of_bias(dy, ctx.bias_dtype)
    return tuple(grads)


# all defaults are None; those that have none are always given
gradient.register("dequant_gemm", dict.fromkeys(_ARGUMENTS), 5, _setup, _backward)
