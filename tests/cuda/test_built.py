"""What lowbit.capabilities() tells of CUDA is asked of the library itself: here of the bindings on the emulator."""

from __future__ import annotations

import lowbit
import pytest
from cuda.kernels import ARCHS
from emu import emulator
from emu.toolchain import build_emulated_ops
from lowbit import library


@pytest.fixture(scope="module")
def told() -> library.Cuda:
    emulator.get("arch")  # the emulator's libcudart first: the library asks for a libcudart.so.13
    return library.Cuda.of(build_emulated_ops())


def test_architectures_are_those_of_the_build(told: library.Cuda) -> None:
    assert told.archs == ARCHS


def test_engines_are_those_that_the_architecture_has(told: library.Cuda) -> None:
    """b1 mma is one instruction on sm_80 to sm_90, FP8 mma.sync on sm_89 and sm_120."""
    assert told.engines.keys() == set(ARCHS)
    assert all({"int8", "bfloat16", "half"} <= set(engines) for engines in told.engines.values())
    assert {a for a, engines in told.engines.items() if "binary" in engines} == {"80", "89", "90"}
    assert {a for a, engines in told.engines.items() if "float8" in engines} == {"89", "120f"}


def test_kernels_are_those_of_the_families(told: library.Cuda) -> None:
    """Every entry of the kernel table."""
    assert set(told.kernels) == set(lowbit.capabilities()["kernels"])
