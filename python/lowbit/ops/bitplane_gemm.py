"""bitplane_gemm: codes times codes, plane by plane."""

import torch
from torch import Tensor

from lowbit.ops import shapes

_ops = torch.ops.lowbit


def bitplane_gemm(
    x: Tensor,
    x_scale: Tensor | None,
    x_zero: Tensor | None,
    x_format: str,
    w: Tensor,
    w_scale: Tensor | None,
    w_zero: Tensor | None,
    w_format: str,
    k: int,
    *,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """`x w^T` of two integer-coded matrices of 1 to 8 bits each, by AND and popcount over their bit planes.

    Any width times any width: signed, unsigned, bipolar {-1, +1}, ternary, complex {+-1, +-i}. Sums of integer products
    are exact; scale groups are joined in ascending order, so the bits of the result are the same on every machine
    (`csrc/ref/gemm_args.h`). The method is that of APNN-TC (Feng et al. 2021) and ABQ-LLM (Zeng et al. 2024); complex
    weights are those of iFairy (Wang et al. 2025).

    Args:
        x: codes of M x k activations: planes `[q, M, ceil(k / 32)]` or plain `[M, k]`.
        x_scale, x_zero: scales and zero points of x, `[M, groups]`, `[M]` or one value.
        x_format: format string of x, as in "uint4" or "int8:g128".
        w: codes of the N x k weight: planes, plain or prepacked ("@tile16": w_scale must be `[N, groups]`, or of blocks
            of rows or one for all, N being a multiple of 16).
        w_scale, w_zero: of w.
        w_format: format string of w.
        k: columns of both.
        bias: float `[N]`.
        out_dtype: float32, bfloat16, float16, or int32 for the raw integer sum (no scales, no bias); None: float32.

    Returns:
        `[M, N]`. With complex weights x holds `[real | imaginary]` along K and the result `[M, 2 N]` likewise.

    Raises:
        ValueError: a format that is not integer, shapes that do not match k, or an int32 output that could overflow
            (the largest k is named).
    """
    return _ops.bitplane_gemm.default(
        x, x_scale, x_zero, x_format, w, w_scale, w_zero, w_format, k, bias=bias, out_dtype=out_dtype
    )


@shapes.register_fake("lowbit::bitplane_gemm")
def _(
    x: Tensor,
    x_scale: Tensor | None,
    x_zero: Tensor | None,
    x_format: str,
    w: Tensor,
    w_scale: Tensor | None,
    w_zero: Tensor | None,
    w_format: str,
    k: int,
    *,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    size = shapes.product("bitplane_gemm", shapes.lead("bitplane_gemm", x, x_format), w, w_scale, w_format)
    return x.new_empty(size, dtype=out_dtype or torch.float32)
