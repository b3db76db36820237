"""scaled_gemm: both operands low-bit, with block scales."""

import torch
from torch import Tensor

from lowbit.ops import shapes

_ops = torch.ops.lowbit


def scaled_gemm(
    x: Tensor,
    x_scale: Tensor | None,
    x_format: str,
    w: Tensor,
    w_scale: Tensor | None,
    w_format: str,
    k: int,
    *,
    x_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
    x_scale2: Tensor | None = None,
    w_scale2: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """`x w^T` of two quantized matrices: INT8, INT4, FP8 (tensor, row, 128-block), MXFP8/6/4, NVFP4, MXINT8, NVINT4 ...

    Any pair of formats, not only equal ones. Where both are integers or exact in int8 (MXFP4, NVFP4: values are halves)
    the products of a scale group are summed exactly and the result has the same bits on every machine, but for MXFP4,
    NVFP4 and MXFP6 E2M3 pairs on GPUs whose tensor cores take the scales of blocks (sm_120, sm_121; `bitplane_gemm`
    gives the bits there too); else they are summed in float32 (`csrc/ref/gemm_args.h`). Formats: OCP Microscaling
    v1.0 (Rouhani et al. 2023); NVFP4, NVINT4 as in "INT v.s. FP" (Chen et al. 2025).

    Args:
        x: codes of M x k activations, canonical or plain.
        x_scale, x_zero, x_scale2: scales, zero points, scales of the scales of x.
        x_format: format string of x, as in "mxfp8_e4m3" or "int8".
        w: codes of the N x k weight, canonical, plain or prepacked.
        w_scale, w_zero, w_scale2: of w.
        w_format: format string of w.
        k: columns of both.
        bias: float `[N]`.
        out_dtype: float32, bfloat16 or float16, or int32 for the raw integer sum; None: float32.

    Returns:
        `[M, N]`.

    Raises:
        ValueError: a scale is missing or has the wrong shape for its block rule, or k does not match the codes.
    """
    return _ops.scaled_gemm.default(
        x,
        x_scale,
        x_format,
        w,
        w_scale,
        w_format,
        k,
        x_zero=x_zero,
        w_zero=w_zero,
        x_scale2=x_scale2,
        w_scale2=w_scale2,
        bias=bias,
        out_dtype=out_dtype,
    )


@shapes.register_fake("lowbit::scaled_gemm")
def _(
    x: Tensor,
    x_scale: Tensor | None,
    x_format: str,
    w: Tensor,
    w_scale: Tensor | None,
    w_format: str,
    k: int,
    *,
    x_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
    x_scale2: Tensor | None = None,
    w_scale2: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    size = shapes.product("scaled_gemm", shapes.lead("scaled_gemm", x, x_format), w, w_scale, w_format)
    return x.new_empty(size, dtype=out_dtype or torch.float32)
