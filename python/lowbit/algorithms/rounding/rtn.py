"""Rounding to nearest."""

from __future__ import annotations

from torch import Tensor

from lowbit.algorithms.grids import min_max
from lowbit.config import WeightConfig
from lowbit.tensor import QuantTensor


def rtn(weight: Tensor, config: WeightConfig) -> QuantTensor:
    """Every weight to the nearest point of the grid that covers its block.

    Args:
        weight: [rows, cols], finite.
        config: the format.
    """
    return min_max(weight, config)
