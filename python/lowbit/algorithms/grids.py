"""Grids: the points that the weights of a block may take, and how its range is chosen."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from lowbit.config import ClipSearch, MinMax, WeightConfig
from lowbit.config import Grid as GridConfig
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


def build_grid(weight: Tensor, config: WeightConfig, grid: GridConfig) -> Grid:
    """The static grid of a weight [rows, cols].

    Args:
        weight: float32.
        config: the format.
        grid: MinMax, or ClipSearch (formats with float scales).
    """
    like = QuantTensor.quantize(weight, config.format, asymmetric=config.asymmetric, scale_dtype=config.scale_dtype)
    if isinstance(grid, ClipSearch):
        scale = _search(weight, like, grid)
        like = QuantTensor.quantize(weight, config.format, scale=scale, zero=like.zero)
    elif not isinstance(grid, MinMax):
        raise TypeError(f"build_grid: grid must be MinMax or ClipSearch, got {type(grid).__name__}")
    return _read(like)


def _read(like: QuantTensor) -> Grid:
    rows, cols = like.shape
    spec = like.spec
    groups = spec.groups(cols)
    if spec.scale is None:
        assert like.scale is not None
        step = like.scale.float()
    else:
        scale_spec = spec.scale
        count = (1 if spec.block_rows == 0 else -(-rows // spec.block_rows)) if spec.block_rows != 1 else rows
        # the scales are a quantized matrix of their own; a tensor scale of theirs is one number for all of it
        block = ":tensor" if spec.two_level else ":row"
        step = torch.ops.lowbit.dequantize(like.scale, like.scale2, None, scale_spec + block, groups)
        step = step.reshape(count, groups)
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


def _search(weight: Tensor, like: QuantTensor, config: ClipSearch) -> Tensor:
    """The scales, in the dtype of ``like.scale``, of the shrunken grids with the least error."""
    grid = _read(like)
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
