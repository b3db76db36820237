"""GPTQ: accurate post-training quantization for generative pre-trained transformers (Frantar et al. 2022)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from lowbit.algorithms.column_loop import column_loop
from lowbit.algorithms.grids import Grid, min_max, read_grid
from lowbit.algorithms.hessian import InverseFactor, inverse_factor
from lowbit.config import GPTQ, WeightConfig
from lowbit.tensor import QuantTensor


def gptq(
    weights: Sequence[Tensor],
    config: WeightConfig,
    hessian: Tensor,
    method: GPTQ,
    static: Sequence[QuantTensor] | None = None,
) -> list[QuantTensor]:
    """Rounds the weights of linears that share their input, so that the outputs change least.

    Args:
        weights: [rows_i, cols] each, finite.
        config: the format.
        hessian: of the shared input, [cols, cols].
        method: act-order, damping, groups.
        static: with static groups, the same weights rounded some other way: their scales and zero points are the grids.
            None: min-max grids.

    Returns:
        One QuantTensor for each weight.
    """
    whole = torch.cat([w.float() for w in weights])
    factor = inverse_factor(hessian, damping=method.damping, act_order=method.act_order)
    bounds = torch.tensor([0, *(len(w) for w in weights)]).cumsum(0).tolist()
    parts = list(itertools.pairwise(bounds))
    if not method.static_groups:
        return _dynamic(whole, parts, config, factor, method)
    grids = [read_grid(like) for like in static or [min_max(w, config) for w in weights]]
    step = torch.cat([g.step for g in grids]).t().contiguous()
    zero = None if grids[0].zero is None else torch.cat([g.zero for g in grids]).t().contiguous()  # type: ignore[misc]
    rounder, group = grids[0].rounder, grids[0].group

    def quantizer(column: int, w: Tensor) -> Tensor:
        s = step[column // group]
        t = w / s
        if zero is None:
            return rounder.round(t).mul_(s)
        z = zero[column // group]
        return rounder.round(t.add_(z)).sub_(z).mul_(s)

    rounded = column_loop(whole, factor, quantizer, block=method.block)
    return [_encode(rounded[a:b], g) for (a, b), g in zip(parts, grids, strict=True)]


def _encode(values: Tensor, grid: Grid) -> QuantTensor:
    """The codes of values that lie on the grid."""
    groups = torch.arange(values.shape[1]) // grid.group
    t = values / grid.step[:, groups]
    if grid.zero is not None:
        t += grid.zero[:, groups]
    rounder = grid.rounder
    like = grid.like
    packed = torch.ops.lowbit.pack(rounder.codes(rounder.round(t)), like.spec.element)
    return dataclasses.replace(like, codes=packed)


def _dynamic(
    whole: Tensor,
    parts: list[tuple[int, int]],
    config: WeightConfig,
    factor: InverseFactor,
    method: GPTQ,
) -> list[QuantTensor]:
    """Grids taken group by group from the weights as the errors so far have left them."""
    group = config.spec.block_cols or whole.shape[1]
    made: list[Grid] = []

    def before_column(column: int, work: Tensor) -> None:
        if column % group == 0:
            made.append(read_grid(min_max(work[column : column + group].t(), config)))

    def quantizer(column: int, w: Tensor) -> Tensor:
        g = made[-1]
        s = g.step[:, 0]
        t = w / s
        if g.zero is None:
            return g.rounder.round(t).mul_(s)
        z = g.zero[:, 0]
        return g.rounder.round(t.add_(z)).sub_(z).mul_(s)

    # a whole number of groups in a block, so that a group's first column finds all of it up to date
    block = -(-method.block // group) * group
    rounded = column_loop(whole, factor, quantizer, block=block, before_column=before_column)
    out = []
    for a, b in parts:
        scale = torch.cat([g.like.scale[a:b].reshape(b - a, 1) for g in made], 1)  # type: ignore[index]
        zero = None
        if made[0].like.zero is not None:
            zero = torch.cat([g.like.zero[a:b].reshape(b - a, 1) for g in made], 1)  # type: ignore[index]
        like = QuantTensor.quantize(rounded[a:b].contiguous(), config.format, scale=scale, zero=zero)
        step = scale.float()
        out.append(_encode(rounded[a:b], Grid(like, step, None if zero is None else zero.float(), group)))
    return out
