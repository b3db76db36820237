"""Modules of a rotated model that is not (yet) quantized, and the end of its residual stream."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_hadamard = torch.ops.lowbit.hadamard


def rotate(x: Tensor, block: int, sign: Tensor | None, *, transpose: bool = False) -> Tensor:
    """The orthonormal Hadamard transform along the last axis, differentiable where x asks for it."""
    run = _hadamard.autograd if torch.is_grad_enabled() and x.requires_grad else _hadamard.default
    return run(x, block=block, sign=sign, transpose=transpose)


class _Signed(nn.Module):
    """Keeps the buffer `sign` in float32 under ``to(dtype)``: the op takes no other."""

    sign: Tensor | None

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        if self.sign is not None:
            self.sign = self.sign.float()  # +-1 are exact in every float type
        return self


class RotatedLinear(_Signed, nn.Linear):
    """A full-precision linear whose input is rotated while running; its weight was rotated to match.

    Args:
        weight: [out_features, in_features], rotated.
        block: size of the Hadamard blocks.
        sign: the +-1 of the rotation, [in_features] float32, or None.
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None, block: int, sign: Tensor | None) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight.shape
        self.weight = weight
        self.bias = bias  # type: ignore[assignment]
        self.hadamard = block
        self.register_buffer("sign", sign)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(rotate(x, self.hadamard, self.sign), self.weight, self.bias)


class Unrotate(_Signed):
    """Takes a rotated stream back to its own basis, then applies `inner`: the last norm, whose weight does not commute
    with a rotation and could not be folded into a head that shares its weight with the embedding.

    Args:
        inner: applied to the stream in its own basis.
        block: size of the Hadamard blocks.
        sign: the +-1 of the rotation, [width] float32.
    """

    def __init__(self, inner: nn.Module, block: int, sign: Tensor | None) -> None:
        super().__init__()
        self.inner = inner
        self.hadamard = block
        self.register_buffer("sign", sign)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(rotate(x, self.hadamard, self.sign, transpose=True))
