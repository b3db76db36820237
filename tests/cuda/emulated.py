"""The ops of the CUDA binding on an emulated device: `torch.ops.lowbit_emu`, whose CPU tensors take the way of CUDA
tensors (csrc/torch/backend.h) through the kernels of every architecture."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

import lowbit  # noqa: F401
import torch
from cuda.kernels import ARCH, ARCHS, MODELS, on, same_bits, twice
from emu import emulator
from emu.toolchain import build_emulated_ops
from torch import Tensor

__all__ = ["ARCH", "ARCHS", "MODELS", "kernels", "launches", "ops", "run", "same_bits"]


@cache
def ops() -> Any:
    emulator.get("arch")  # the emulator's libcudart first: the binding asks for a libcudart.so.13
    torch.ops.load_library(os.environ.get("LOWBIT_EMULATED_OPS") or str(build_emulated_ops()))
    return torch.ops.lowbit_emu


def run(call: Callable[[Any], Tensor], arch: str | None = None, **settings: Any) -> Tensor:
    """`call(ops)` on the device, its checkers silent, twice with the same bits."""
    library = ops()
    with on(arch, **settings):
        return twice(lambda: call(library))


def launches(call: Callable[[Any], Tensor], arch: str | None = None, **settings: Any) -> list[dict[str, Any]]:
    """What a call launches: "kernel" (mangled), "grid", "block" ..."""
    library = ops()
    with emulator.settings(arch=arch or ARCH, **settings):
        emulator.clear()
        call(library)
        found = emulator.counts()
        emulator.clear()
    return found


def kernels(call: Callable[[Any], Tensor], arch: str | None = None, **settings: Any) -> set[str]:
    return {launch["kernel"] for launch in launches(call, arch, **settings)}
