"""Rotation by Hadamard matrices (QuaRot, Ashkboos et al. 2024): the steps on the tensors of one layer.

R x = H diag(sign) x / sqrt(n) along the last axis, orthonormal. A stream carried as R x gives the same model when every
weight that reads it becomes W R^T and every weight that writes it R W; RMSNorm without a weight commutes with R.
"""

from __future__ import annotations

import torch
from torch import Tensor


def random_signs(width: int, seed: int) -> Tensor:
    """+-1, [width] float32."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (width,), generator=generator).float() * 2 - 1


def rotate_input(weight: Tensor, sign: Tensor | None = None, *, block: int = 0) -> Tensor:
    """W R^T, for a weight [out, in] whose input arrives as R x. `block`: size of the diagonal blocks, 0: the width."""
    return torch.ops.lowbit.hadamard(weight.contiguous(), block=block, sign=sign)


def rotate_output(weight: Tensor, sign: Tensor | None = None, *, block: int = 0) -> Tensor:
    """R W, for a weight [out, in] (or a bias [out]) whose output is to leave as R y."""
    return torch.ops.lowbit.hadamard(weight.t().contiguous(), block=block, sign=sign).t().contiguous()


def fold_norm(weight: Tensor, norm: Tensor) -> Tensor:
    """W diag(norm): the weight of the RMSNorm before a linear [out, in], moved into it."""
    return weight * norm
