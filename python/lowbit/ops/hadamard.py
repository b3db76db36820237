"""hadamard: the Walsh-Hadamard transform along the last axis."""

from typing import Any

import torch
from torch import Tensor

from lowbit.ops import gradient, shapes

_ops = torch.ops.lowbit


def hadamard(
    x: Tensor,
    *,
    block: int = 0,
    sign: Tensor | None = None,
    scale: float | None = None,
    transpose: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """Transforms each block of the last axis by a Hadamard matrix: `y = scale * H diag(sign) x`.

    H is `H_m (x) H_{2^k}`, the Kronecker product of a constructible Hadamard matrix of order m (1, 12, 20, 28, 36, 44,
    52, 60, 108, 172 ...) and Sylvester's matrix in natural order, so that common widths work whole: 576 = 36 * 16,
    1536 = 12 * 128, 11008 = 172 * 64. Rotations of this kind are those of QuIP# (Tseng et al. 2024) and QuaRot
    (Ashkboos et al. 2024).

    Args:
        x: float32, bfloat16 or float16 `[..., K]`, any stride. Sums are float32.
        block: columns transformed together, m * 2^k, a divisor of K; 0: all K.
        sign: float32 `[block]` or `[K]` of +-1, applied before H (after H^T when transposed).
        scale: factor of the result; None: 1 / sqrt(block), which makes the transform orthonormal.
        transpose: compute `y = scale * diag(sign) H^T x`, the inverse of the orthonormal transform.
        out: where the result goes; `x` itself is allowed.

    Returns:
        `[..., K]` in x's dtype. Differentiable in x: the gradient is the transposed transform.

    Raises:
        ValueError: no Hadamard matrix of that size is known (the near sizes are named), or block does not divide K.
    """
    if out is not None:
        _ops.hadamard.out(x, block=block, sign=sign, scale=scale, transpose=transpose, out=out)
        return out
    if gradient.needed(x, sign):
        return _ops.hadamard.autograd(x, block, sign, scale, transpose)
    return _ops.hadamard.default(x, block=block, sign=sign, scale=scale, transpose=transpose)


@shapes.register_fake("lowbit::hadamard")
@shapes.register_fake("lowbit::hadamard.autograd")
def _(
    x: Tensor,
    block: int = 0,
    sign: Tensor | None = None,
    scale: float | None = None,
    transpose: bool = False,
) -> Tensor:
    return x.new_empty(x.shape)


@shapes.register_fake("lowbit::hadamard.out")
def _(
    x: Tensor,
    *,
    block: int = 0,
    sign: Tensor | None = None,
    scale: float | None = None,
    transpose: bool = False,
    out: Tensor,
) -> None:
    return None


_ARGUMENTS: dict[str, Any] = {"x": None, "block": 0, "sign": None, "scale": None, "transpose": False}


def _setup(ctx: Any, inputs: tuple[Any, ...]) -> None:
    gradient.refuse("hadamard", tuple(_ARGUMENTS), inputs, ("x",))
    _, ctx.block, sign, ctx.scale, ctx.transpose = inputs
    ctx.save_for_backward(sign)


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    (sign,) = ctx.saved_tensors
    dx = _ops.hadamard.autograd(dy, ctx.block, sign, ctx.scale, not ctx.transpose)
    return dx, None, None, None, None


gradient.register("hadamard", _ARGUMENTS, 1, _setup, _backward, twice=True)
