"""The quantized linear."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lowbit.nn.rotated import _Signed
from lowbit.nn.weight import QuantWeight

_gemm = torch.ops.lowbit.gemm.default
_gemm_autograd = torch.ops.lowbit.gemm.autograd
_hadamard = torch.ops.lowbit.hadamard.default
_hadamard_autograd = torch.ops.lowbit.hadamard.autograd


class QuantLinear(_Signed):
    """``y = x W^T + bias`` with a quantized weight: one call of ``lowbit::gemm``.

    Args:
        weight: [out_features, in_features].
        bias: [out_features] or None.
        x_format: quantize the input to this format while running; None: leave it.
        hadamard: > 0: rotate the input first, in blocks of this size; the weight was rotated to match.
        sign: the +-1 of that rotation, [in_features] float32, or None.

    Shapes: x [..., in_features] float32, bfloat16 or float16 -> [..., out_features] in the same dtype. Gradients flow
    to x and bias.
    """

    def __init__(
        self,
        weight: QuantWeight,
        bias: nn.Parameter | None = None,
        *,
        x_format: str | None = None,
        hadamard: int = 0,
        sign: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.weight = weight
        self.bias = bias
        self.x_format = x_format
        self.hadamard = hadamard
        self.register_buffer("sign", sign)

    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias
        # _buffers and _modules directly: nn.Module would find each of them by a failed lookup first
        weight: Any = self._modules["weight"]
        parts = weight._buffers
        differentiable = torch.is_grad_enabled() and (x.requires_grad or (bias is not None and bias.requires_grad))
        if self.hadamard:
            rotate = _hadamard_autograd if differentiable else _hadamard
            x = rotate(x, block=self.hadamard, sign=self.sign)
        gemm = _gemm_autograd if differentiable else _gemm
        # an argument by name takes as long as five by place, also where it is None
        given: dict[str, Any] = {}
        if x.shape[-1:] != (self.in_features,):
            given["k"] = self.in_features  # the op says what is wrong
        if bias is not None:
            given["bias"] = bias
        if self.x_format is not None:
            given["x_format"] = self.x_format
        if parts["scale2"] is not None:
            given["w_scale2"] = parts["scale2"]
        if parts["table"] is not None:
            given["w_table"] = parts["table"]
        return gemm(x, parts["codes"], parts["scale"], parts["zero"], weight.format, **given)

    def extra_repr(self) -> str:
        parts = [f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"]
        if self.x_format:
            parts.append(f"x_format={self.x_format}")
        if self.hadamard:
            parts.append(f"hadamard={self.hadamard}")
        return ", ".join(parts)
