"""The ops of the CUDA binding on an emulated device: `torch.ops.lowbit_emu`, whose CPU tensors take the way of CUDA
tensors (csrc/torch/backend.h) through the kernels of every architecture."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

import lowbit  # noqa: F401
import torch
from emu import emulator
from emu.toolchain import build_emulated_ops
from torch import Tensor

ARCHS = ("80", "89", "90", "120f")
MODELS = ("exact", "hardware")


@cache
def ops() -> Any:
    emulator.get("arch")  # the emulator's libcudart first: the binding asks for a libcudart.so.13
    torch.ops.load_library(os.environ.get("LOWBIT_EMULATED_OPS") or str(build_emulated_ops()))
    return torch.ops.lowbit_emu


def same_bits(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bytes(_bytes(a)) == bytes(_bytes(b))


def _bytes(t: Tensor) -> Any:
    return t.contiguous().reshape(-1).view(torch.uint8).numpy()


def run(call: Callable[[Any], Tensor], arch: str = "80", **settings: Any) -> Tensor:
    """`call(ops)` on the device. Its checkers stay silent, and a second run, whose blocks and warps take turns in
    another order, gives the same bits."""
    library = ops()
    with emulator.settings(arch=arch, **settings), emulator.silent():
        first = call(library)
        # the seed is also the order of the sums of the model "hardware"
        again = {} if settings.get("mma") == "hardware" else {"seed": int(emulator.get("seed")) + 1}
        with emulator.settings(**again):
            second = call(library)
    assert same_bits(first, second), "two runs differ"
    return first


def launches(call: Callable[[Any], Tensor], arch: str = "80", **settings: Any) -> list[dict[str, Any]]:
    """What a call launches: "kernel" (mangled), "grid", "block" ..."""
    library = ops()
    with emulator.settings(arch=arch, **settings):
        emulator.clear()
        call(library)
        found = emulator.counts()
        emulator.clear()
    return found


def kernels(call: Callable[[Any], Tensor], arch: str = "80", **settings: Any) -> set[str]:
    return {launch["kernel"] for launch in launches(call, arch, **settings)}
