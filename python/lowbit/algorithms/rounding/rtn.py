"""Rounding to nearest."""

from __future__ import annotations

from torch import Tensor

from lowbit.algorithms.grids import build_grid
from lowbit.config import Grid, MinMax, WeightConfig
from lowbit.tensor import QuantTensor


def rtn(weight: Tensor, config: WeightConfig, grid: Grid | None = None) -> QuantTensor:
    """Every weight to the nearest point of its grid.

    Args:
        weight: [rows, cols], finite.
        config: the format.
        grid: how each block's range is chosen; MinMax() when None.
    """
    return build_grid(weight.float(), config, grid or MinMax()).like
