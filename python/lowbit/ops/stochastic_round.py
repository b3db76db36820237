"""stochastic_round, stochastic_round_update_: unbiased rounding, and weights that learn in their low-bit codes."""

import torch
from torch import Tensor

from lowbit.ops import shapes

_ops = torch.ops.lowbit


def stochastic_round(x: Tensor, format: str, seed: Tensor) -> Tensor:
    """Rounds each element to one of its two neighbours in `format`, up with probability = distance.

    x between neighbours a < b goes up with probability (x - a) / (b - a), rounded to 2^-16; a value of the format never
    moves; beyond the range it saturates. Random bits: Philox4x32-10 (Salmon et al. 2011), 16 an element, counted by the
    row-major position in x, so the same for every thread count and stride.

    Args:
        x: float32, bfloat16 or float16, any shape and stride.
        format: an element format, or "bfloat16" / "float16".
        seed: int64 `[2]` = (seed, offset).

    Returns:
        The rounded values, in x's shape; dtype of x, or bfloat16 / float16 where the format is one of these.

    Raises:
        ValueError: an unknown format, seed is not int64 [2], or x holds a NaN that the format has not (on CUDA by a
            later call or `lowbit.check_values()`).
    """
    return _ops.stochastic_round.default(x, format, seed)


def stochastic_round_update_(
    w: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    dw: Tensor,
    format: str,
    seed: Tensor,
    *,
    rescale: bool = False,
) -> None:
    """`W <- SR(W + dW)` on the codes of a quantized weight, in place, without a float copy of W.

    The update of Q-GaLore (Zhang et al. 2024): a step smaller than half a quantum still moves the weight in
    expectation.

    Args:
        w: canonical codes, written.
        scale: float scales `[N, groups]`; written only when `rescale`.
        zero: zero points; written only when `rescale`.
        dw: float32, bfloat16 or float16 `[N, K]`, any stride.
        format: the format string of w.
        seed: int64 `[2]` = (seed, offset).
        rescale: recompute scales (and integer zero points) from W + dW first.

    Raises:
        ValueError: shapes do not match, w shares memory with itself or with dw, or the scales are codes: no op writes
            those in place; quantize W + dW again. A dw that is not finite: on the CPU nothing is written then; on CUDA
            its element keeps its code, and a later call or `lowbit.check_values()` raises.
    """
    _ops.stochastic_round_update_.default(w, scale, zero, dw, format, seed, rescale=rescale)


@shapes.register_fake("lowbit::stochastic_round")
def _(
    x: Tensor,
    format: str,
    seed: Tensor,
) -> Tensor:
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(format, x.dtype)
    return x.new_empty(x.shape, dtype=dtype)


@shapes.register_fake("lowbit::stochastic_round_update_")
def _(
    w: Tensor,
    scale: Tensor | None,
    zero: Tensor | None,
    dw: Tensor,
    format: str,
    seed: Tensor,
    *,
    rescale: bool = False,
) -> None:
    return None
