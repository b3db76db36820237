"""torchao's eager int8 linear with activations quantized at each call, one scale a token."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from peers import Candidate, Problem, copy_count


def library() -> Any:
    import torchao.quantization

    return torchao.quantization


def candidates(problem: Problem) -> Iterator[Candidate]:
    quantization = library()
    if problem.bits != 8:
        return
    n, k = problem.dense.shape

    def layer() -> torch.nn.Module:
        linear = torch.nn.Linear(k, n, bias=False).eval()
        linear.weight = torch.nn.Parameter(problem.dense.clone(), requires_grad=False)
        quantization.quantize_(linear, quantization.Int8DynamicActivationInt8WeightConfig())
        return linear

    layers = [layer() for _ in range(copy_count())]
    dense = layers[0].weight.dequantize().float()

    def bind(x: Tensor) -> Callable[[int], Tensor]:
        return lambda turn: layers[turn % len(layers)](x)

    yield Candidate("torchao int8 dynamic (eager)", "int8", dense, n * k + 4 * n, bind)
