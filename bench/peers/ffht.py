"""FFHT: AVX butterflies in fp32 over rows of 2^k, those of a matrix one after the other."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from peers import Transform


def library() -> Any:
    import ffht

    return ffht


def transforms(n: int, threads: int) -> Iterator[Transform]:
    ffht = library()
    if n & (n - 1):
        return

    def out_of_place(x: Tensor) -> Tensor:
        return torch.from_numpy(ffht.fht(x.numpy(), threads))

    def in_place(x: Tensor) -> Tensor:
        ffht.fht_(x.numpy(), threads)
        return x

    yield Transform("FFHT", False, out_of_place)
    yield Transform("FFHT", True, in_place)
