"""The error-feedback column loop of GPTQ (Frantar et al. 2022, algorithm 1), with a pluggable quantizer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lowbit.algorithms.hessian import InverseFactor

# quantizer(column, w) -> the values that the column's weights w [rows] get, [rows]; `column` counts as in the weight
Quantizer = Callable[[int, Tensor], Tensor]


def column_loop(
    weight: Tensor,
    factor: InverseFactor,
    quantizer: Quantizer,
    *,
    block: int = 128,
    before_column: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Rounds one column after the other; what a column's rounding leaves is spread over the columns still to come.

    For column j of the order: q = quantizer(w_j), e = (w_j - q) / U_jj, and w_i -= e U_ji for all later i: at once
    within a block of columns, behind the block by one matrix product.

    Args:
        weight: [rows, cols] float32; not changed.
        factor: of the inverse Hessian, cols wide.
        quantizer: called once for each column.
        before_column: called with (column, weights as they are now, transposed [cols, rows]) before the quantizer, for
            grids that follow the weights. Columns behind the block have not heard of the block's errors yet: a grid's
            columns must lie in one block.

    Returns:
        The values that the quantizer gave, [rows, cols].
    """
    upper, order = factor.upper, factor.order
    work = weight.t()
    work = work[order].clone() if order is not None else work.contiguous().clone()  # rows of `work` are columns
    columns = order.tolist() if order is not None else list(range(work.shape[0]))
    work[[factor.dead[c].item() for c in columns]] = 0.0
    rounded = torch.empty_like(work)
    diagonal = upper.diagonal().tolist()
    cols, rows = work.shape
    for start in range(0, cols, block):
        stop = min(start + block, cols)
        errors = torch.empty(stop - start, rows)
        # the part of U within the block, by rows
        inner = upper[start:stop, start:stop].contiguous()
        for j in range(start, stop):
            if before_column is not None:
                before_column(columns[j], work)
            w = work[j]
            q = quantizer(columns[j], w)
            rounded[j] = q
            error = torch.sub(w, q, out=errors[j - start]).div_(diagonal[j])
            if j + 1 < stop:
                work[j + 1 : stop].addr_(inner[j - start, j - start + 1 :], error, alpha=-1.0)
        if stop < cols:
            work[stop:].addmm_(upper[start:stop, stop:].t(), errors, alpha=-1.0)
    if order is not None:
        back = torch.empty_like(rounded)
        back[order] = rounded
        rounded = back
    return rounded.t()
