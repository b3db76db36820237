"""Clip search: a smaller range for the many at the price of the few."""

from __future__ import annotations

import torch
from torch import Tensor

from lowbit.algorithms.grids import blocks_of, min_max, read_grid
from lowbit.config import ClipSearch, WeightConfig
from lowbit.tensor import QuantTensor


def clip_search(weight: Tensor, config: WeightConfig, search: ClipSearch) -> QuantTensor:
    """Every weight to the nearest point of the best grid of its block: the min-max grid, shrunken by the factor that
    gives the least sum of |error|^norm.

    Args:
        weight: [rows, cols], finite.
        config: a format with float scales.
        search: the factors tried, the norm.
    """
    weight = weight.float()
    like = min_max(weight, config)
    scale = _best_scale(weight, like, search)
    return QuantTensor.quantize(weight, config.format, scale=scale, zero=like.zero)


def _best_scale(weight: Tensor, like: QuantTensor, config: ClipSearch) -> Tensor:
    """The scales, in the dtype of ``like.scale``."""
    grid = read_grid(like)
    rounder = grid.rounder
    assert like.scale is not None
    best_scale = torch.empty_like(like.scale)
    flat_scale = like.scale.reshape(grid.step.shape)
    out = best_scale.view(flat_scale.shape)
    rows_at_once = max(1, (1 << 18) // max(weight.shape[1], 1))  # of 1 MiB: stays in the cache
    for start in range(0, weight.shape[0], rows_at_once):
        part = slice(start, start + rows_at_once)
        x = blocks_of(weight[part], grid.group)
        zero = None if grid.zero is None else grid.zero[part].unsqueeze(-1)
        least = torch.full(flat_scale[part].shape, float("inf"))
        for i in range(config.steps):
            shrink = 1.0 - (1.0 - config.smallest) * i / max(config.steps - 1, 1)
            scale = (flat_scale[part].float() * shrink).to(like.scale.dtype)
            # a subnormal scale may shrink to nothing
            scale = torch.where(scale == 0, flat_scale[part], scale)
            step = scale.float().unsqueeze(-1)
            t = x / step
            if zero is not None:
                t += zero
            q = rounder.round(t)
            q = (q.sub_(zero) if zero is not None else q).mul_(step).sub_(x).abs_()
            error = (q.square_() if config.norm == 2 else q.pow_(config.norm)).sum(-1)
            better = error < least
            least = torch.where(better, error, least)
            out[part] = torch.where(better, scale, out[part])
    return best_scale
