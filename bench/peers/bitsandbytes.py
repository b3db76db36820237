"""bitsandbytes on the CPU: a bf16 product with an NF4 weight, blocks of 64."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from peers import Candidate, Problem, copy_count


def library() -> Any:
    import bitsandbytes

    return bitsandbytes


def candidates(problem: Problem) -> Iterator[Candidate]:
    bnb = library()
    if problem.bits != 4:
        return
    functional = bnb.functional
    n, k = problem.dense.shape
    codes, state = functional.quantize_4bit(problem.dense.to(torch.bfloat16), blocksize=64, quant_type="nf4")
    dense = functional.dequantize_4bit(codes, state).float()
    size = codes.nbytes + state.absmax.nbytes
    layers = [_layer(bnb, problem.dense, n, k) for _ in range(copy_count())]

    def bind(x: Tensor) -> Callable[[int], Tensor]:
        given = x.to(torch.bfloat16)
        return lambda turn: layers[turn % len(layers)](given)

    yield Candidate("bitsandbytes Linear4bit nf4", "bf16", dense, size, bind)


def _layer(bnb, dense: Tensor, n: int, k: int):
    layer = bnb.nn.Linear4bit(k, n, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
    layer.weight = bnb.nn.Params4bit(dense.to(torch.bfloat16), requires_grad=False, quant_type="nf4")
    return layer.to("cpu").eval()
