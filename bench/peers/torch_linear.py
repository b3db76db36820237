"""F.linear in bf16: what stands beside a weight of any width."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from peers import Candidate, Problem


def library() -> object:
    return torch


def candidates(problem: Problem) -> Iterator[Candidate]:
    weight = problem.dense.to(torch.bfloat16)
    held = problem.copies(weight)

    def bind(x: Tensor) -> Callable[[int], Tensor]:
        given = x.to(torch.bfloat16)
        return lambda turn: F.linear(given, held[turn % len(held)])

    yield Candidate("torch F.linear bf16", "bf16", weight.float(), weight.nbytes, bind)
