"""What lowbit.capabilities() tells of CUDA is asked of the library itself: here of the bindings on the emulator."""

from __future__ import annotations

import re
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


def rules(folder: Path, **more: object) -> str:
    """What ninja is told of a build of the package with CUDA."""
    options = {
        "CMAKE_MAKE_PROGRAM": program("ninja", "BIN_DIR"), "LOWBIT_CUDA": "ON", "LOWBIT_NVCC": nvcc(),
        "LOWBIT_OUTPUT": folder / "python", "LOWBIT_TORCH": Path(torch.__file__).parent,
    }  # fmt: skip
    root = Path(__file__).parents[2]
    command = [program("cmake", "CMAKE_BIN_DIR"), "-S", root, "-B", folder / "build", "-G", "Ninja"]
    given = (options | more).items()
    subprocess.run([*command, *(f"-D{k}={v}" for k, v in given)], check=True, capture_output=True)
    return (folder / "build" / "build.ninja").read_text()


def test_the_library_of_the_tests_stays_out_of_the_wheel(tmp_path: Path) -> None:
    """What lies in LOWBIT_OUTPUT goes into it: the bindings, and not the C entry points."""
    text = rules(tmp_path)
    assert f"{tmp_path}/python/_cuda.so" in text
    assert f"{tmp_path}/python/_cuda_kernels.so" not in text


# of files of the CUDA kernels, the PTX and the machine code that is made of it
COMPILED = {
    "80;89;90;120f": {
        "int8_gemm": {"80": "80 89 90", "120f": "120f"}, "float8_gemm": {"89": "89", "120f": "120f"},
        "int4_gemm": {"80": "80 89"}, "binary_gemm": {"80": "80 89 90"}, "block_scaled_gemm": {"120f": "120f"},
    },
    "90": {file: {"90": "90"} for file in ("int8_gemm", "int4_gemm", "float8_gemm", "block_scaled_gemm")},
    "120;89;86": {
        "quantize": {"86": "86 89", "120": "120"}, "block_scaled_gemm": {"86": "86 89", "120": "120"},
        "int4_gemm": {"86": "86 89"}, "float8_gemm": {"89": "89", "120": "120"},
    },
    "90;90a": {file: {"90": "90", "90a": "90a"} for file in ("int8_gemm", "binary_gemm")},
    "100": {file: {"100": "100"} for file in ("int8_gemm", "int4_gemm", "binary_gemm")},
}  # fmt: skip


@pytest.mark.parametrize("archs", COMPILED)
def test_files_are_compiled_for_what_has_their_multiply(tmp_path: Path, archs: str) -> None:
    """Where nothing in the build has it, for all: the launchers of the file are linked."""
    text = rules(tmp_path, LOWBIT_CUDA_ARCHS=archs)
    for file, made in COMPILED[archs].items():
        (command,) = (line for line in text.splitlines() if line.endswith(f"/csrc/cuda/{file}.cu.o") and " -c " in line)
        options = re.findall(r"-gencode=arch=compute_(\w+),code=\[([\w,]+)]", command)
        code = {ptx: "".join(f"sm_{arch}," for arch in codes.split()) + f"compute_{ptx}" for ptx, codes in made.items()}
        assert dict(options) == code, file
