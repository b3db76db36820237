"""What lowbit.capabilities() tells of CUDA is asked of the library itself: here of the bindings on the emulator."""

from __future__ import annotations

import subprocess
from pathlib import Path

import lowbit
import pytest
import torch
from cuda.kernels import ARCHS
from emu import emulator
from emu.toolchain import build_emulated_ops, nvcc, program
from lowbit import library


@pytest.fixture(scope="module")
def told() -> library.Cuda:
    emulator.get("arch")  # the emulator's libcudart first: the library asks for a libcudart.so.13
    return library.Cuda.of(build_emulated_ops())


def test_architectures_are_those_of_the_build(told: library.Cuda) -> None:
    assert told.archs == ARCHS


@pytest.mark.parametrize(
    ("engine", "archs"),
    [("int8", ARCHS), ("bfloat16", ARCHS), ("half", ARCHS), ("binary", {"80", "89", "90"}), ("int4", {"80", "89"}),
     ("float8", {"89", "120f"}), ("block_scaled", {"120f"})],
)  # fmt: skip
def test_engines_are_those_that_the_architecture_has(told: library.Cuda, engine: str, archs: set[str]) -> None:
    """Where the multiply is one instruction of mma.sync."""
    assert told.engines.keys() == set(ARCHS)
    assert {a for a, engines in told.engines.items() if engine in engines} == set(archs)


def test_kernels_are_those_of_the_families(told: library.Cuda) -> None:
    """Every entry of the kernel table."""
    assert set(told.kernels) == set(lowbit.capabilities()["kernels"])


def test_the_library_of_the_tests_stays_out_of_the_wheel(tmp_path: Path) -> None:
    """What lies in LOWBIT_OUTPUT goes into it: the bindings, and not the C entry points."""
    output = tmp_path / "python"
    options = {
        "CMAKE_MAKE_PROGRAM": program("ninja", "BIN_DIR"), "LOWBIT_CUDA": "ON", "LOWBIT_NVCC": nvcc(),
        "LOWBIT_OUTPUT": output, "LOWBIT_TORCH": Path(torch.__file__).parent,
    }  # fmt: skip
    root = Path(__file__).parents[2]
    command = [program("cmake", "CMAKE_BIN_DIR"), "-S", root, "-B", tmp_path / "build", "-G", "Ninja"]
    subprocess.run([*command, *(f"-D{k}={v}" for k, v in options.items())], check=True, capture_output=True)
    rules = (tmp_path / "build" / "build.ninja").read_text()
    assert f"{output}/_cuda.so" in rules
    assert f"{output}/_cuda_kernels.so" not in rules
