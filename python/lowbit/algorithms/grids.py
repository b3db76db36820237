"""Grids: the points that the weights of a block may take."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from lowbit.config import WeightConfig
from lowbit.spec import FormatSpec
from lowbit.tensor import QuantTensor


@dataclasses.dataclass(frozen=True)
class Grid:
    """The grid of a matrix [rows, cols].

    Args:
        like: a QuantTensor whose scales and zero points are the grid (its codes are those of plain rounding).
        step: the scale of each block as a number, [rows, groups] float32, scales of scales and units multiplied in.
        zero: the zero point of each block, [rows, groups] float32, or None.
        group: columns in a block.
    """

    like: QuantTensor
    step: Tensor
    zero: Tensor | None
    group: int

    @property
    def rounder(self) -> Rounder:
        return Rounder(self.like.spec)


class Rounder:
    """Rounds numbers in units of the step to the values of an element format."""

    def __init__(self, spec: FormatSpec) -> None:
        # value -> code; of the two zeros of a float the positive one, which comes first
        code_of: dict[float, int] = {}
        for code, value in enumerate(spec.values):
            if code not in spec.invalid_codes:
                code_of.setdefault(float(value.real) + 0.0, code)
        ascending = sorted(code_of)
        self.values = torch.tensor(ascending)
        self._codes = torch.tensor([code_of[value] for value in ascending], dtype=torch.uint8)
        self._middles = (self.values[1:] + self.values[:-1]) / 2
        self.low, self.high = ascending[0], ascending[-1]
        self.is_integer = spec.is_integer

    def round(self, t: Tensor) -> Tensor:
        """The nearest values, as a new tensor."""
        if self.is_integer:
            return t.round().clamp_(self.low, self.high)
        return self.values[torch.bucketize(t.contiguous(), self._middles)]

    def codes(self, values: Tensor) -> Tensor:
        """The codes of what `round` gave, uint8."""
        if self.is_integer:
            return self._codes[(values - self.low).to(torch.int64)]
        return self._codes[torch.searchsorted(self.values, values.contiguous())]


def min_max(weight: Tensor, config: WeightConfig) -> QuantTensor:
    """A weight [rows, cols] rounded to nearest on the grid that covers the whole range of each block."""
    return QuantTensor.quantize(
        weight.float(), config.format, asymmetric=config.asymmetric, scale_dtype=config.scale_dtype
    )


def read_grid(like: QuantTensor) -> Grid:
    """The grid that a QuantTensor lies on."""
    rows, cols = like.shape
    spec = like.spec
    groups = spec.groups(cols)
    if spec.scale is None:
        assert like.scale is not None
        step = like.scale.float()
    else:
        step = torch.ops.lowbit.dequantize(like.scale, like.scale2, None, spec.scale_format, groups)
    step = step.reshape(-1, groups) * spec.unit
    if step.shape[0] != rows:
        step = step.repeat_interleave(spec.block_rows or rows, dim=0)[:rows]
    zero = None if like.zero is None else like.zero.float().reshape(rows, groups)
    return Grid(like, step, zero, spec.block_cols or cols)


def blocks_of(weight: Tensor, group: int) -> Tensor:
    """`weight` as [rows, groups, group]; a short last group is filled up with zeros."""
    rows, cols = weight.shape
    short = -cols % group
    if short:
        weight = torch.nn.functional.pad(weight, (0, short))
    return weight.reshape(rows, -1, group)
