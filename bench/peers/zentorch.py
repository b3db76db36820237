"""zentorch's int8 linear with activations quantized at each call, one scale a token, and its bf16 linear."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from peers import Candidate, Problem, symmetric


def library() -> Any:
    import zentorch

    return zentorch


def candidates(problem: Problem) -> Iterator[Candidate]:
    library()
    if problem.bits != 8:
        return
    codes, scale, dense = symmetric(problem.dense, 8, 0)
    held, per_row = problem.copies(codes), scale.reshape(-1).to(torch.bfloat16)
    dense = codes * per_row.float().unsqueeze(-1)

    def bind(x: Tensor) -> Callable[[int], Tensor]:
        given = x.to(torch.bfloat16)
        return lambda turn: torch.ops.zentorch.zentorch_dynamic_qlinear(given, held[turn % len(held)], per_row)

    yield Candidate("zentorch dynamic_qlinear", "int8", dense, codes.nbytes + per_row.nbytes, bind)

    weight = problem.dense.to(torch.bfloat16)
    wide = problem.copies(weight)

    def bind_wide(x: Tensor) -> Callable[[int], Tensor]:
        given = x.to(torch.bfloat16)
        return lambda turn: torch.ops.zentorch.zentorch_linear_unary(given, wide[turn % len(wide)])

    yield Candidate("zentorch linear bf16", "bf16", weight.float(), weight.nbytes, bind_wide)
