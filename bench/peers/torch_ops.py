"""The quantized products of torch: of int8 with int8, oneDNN's quantized linear, weights of 8 and 4 bits."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from peers import CHECK, Candidate, Problem, copy_count, symmetric


def library() -> object:
    return torch


def candidates(problem: Problem) -> Iterator[Candidate]:
    if problem.bits == 8:
        yield _int_mm(problem)
        yield _onednn(problem)
        yield _int8pack(problem)
    if problem.bits == 4 and problem.group in (32, 64, 128) and problem.dense.shape[0] % 16 == 0:
        yield _int4pack(problem)


def per_token(x: Tensor) -> tuple[Tensor, Tensor]:
    scale = x.abs().amax(-1, keepdim=True) / 127
    return (x / scale).round().to(torch.int8), scale


def _int_mm(problem: Problem) -> Candidate:
    """Activations quantized before and int32 left as they are: what it does is less than a linear."""
    codes, scale, dense = symmetric(problem.dense, 8, 0)
    held = problem.copies(codes)

    def bind(x: Tensor) -> Callable[[int], Tensor]:
        xq, x_scale = per_token(x)

        def call(turn: int) -> Tensor:
            sums = torch._int_mm(xq, held[turn % len(held)].t())
            return sums * (x_scale * scale.reshape(1, -1)) if turn == CHECK else sums

        return call

    return Candidate("torch _int_mm (int32 out)", "int8", dense, codes.nbytes, bind)


def _onednn(problem: Problem) -> Candidate:
    codes, scale, dense = symmetric(problem.dense, 8, 0)
    per_row = scale.reshape(-1).float()
    zeros = torch.zeros(per_row.shape, dtype=torch.int32)
    held = [torch.ops.onednn.qlinear_prepack(codes, None) for _ in range(copy_count())]

    def bind(x: Tensor) -> Callable[[int], Tensor]:
        x_scale = float(x.abs().max()) / 127
        xq = ((x / x_scale).round() + 128).clamp(0, 255).to(torch.uint8)

        def call(turn: int) -> Tensor:
            return torch.ops.onednn.qlinear_pointwise(
                xq, x_scale, 128, held[turn % len(held)], per_row, zeros, None, 1.0, 0, torch.bfloat16, "none", [], ""
            )

        return call

    return Candidate("torch onednn.qlinear (activations given as uint8)", "int8", dense, codes.nbytes, bind)


def _int8pack(problem: Problem) -> Candidate:
    codes, scale, dense = symmetric(problem.dense, 8, 0)
    per_row = scale.reshape(-1).to(torch.bfloat16)
    held = problem.copies(codes)

    def bind(x: Tensor) -> Callable[[int], Tensor]:
        given = x.to(torch.bfloat16)
        return lambda turn: torch._weight_int8pack_mm(given, held[turn % len(held)], per_row)

    return Candidate("torch _weight_int8pack_mm", "bf16", dense, codes.nbytes, bind)


def _int4pack(problem: Problem) -> Candidate:
    codes, scale, dense = symmetric(problem.dense, 4, problem.group)
    packed = torch._convert_weight_to_int4pack_for_cpu((codes + 8).to(torch.int32), 1)
    pairs = torch.stack([scale.t(), torch.zeros_like(scale.t())], dim=2).to(torch.bfloat16).contiguous()
    held = problem.copies(packed)

    def bind(x: Tensor) -> Callable[[int], Tensor]:
        given = x.to(torch.bfloat16)
        return lambda turn: torch._weight_int4pack_mm_for_cpu(given, held[turn % len(held)], problem.group, pairs)

    name = f"torch _weight_int4pack_mm g{problem.group}"
    return Candidate(name, "bf16", dense, packed.nbytes + pairs.nbytes, bind)
