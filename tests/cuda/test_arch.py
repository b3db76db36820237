"""Which machine code a device runs, and how one is refused that none was built for."""

from __future__ import annotations

import ctypes

import pytest
from cuda.kernels import ARCHS, library
from emu import emulator


def select(sm: int) -> str:
    suffix = ctypes.c_char()
    number = library().lowbit_cuda_select(sm, ctypes.byref(suffix))
    return f"{number}{suffix.value.decode().strip(chr(0))}" if number else ""


def test_built() -> None:
    text = ctypes.create_string_buffer(100)
    library().lowbit_cuda_built(text, ctypes.c_int64(100))
    assert tuple(text.value.decode().split()) == ARCHS


@pytest.mark.parametrize(
    ("sm", "code"),
    [(75, ""), (80, "80"), (86, "80"), (87, "80"), (89, "89"), (90, "90"), (100, ""), (103, ""), (110, ""),
     (120, "120f"), (121, "120f"), (130, "")],
)  # fmt: skip
def test_selection(sm: int, code: str) -> None:
    """As the driver picks machine code; embedded PTX is never compiled for a device that was not meant."""
    assert select(sm) == code


def test_devices() -> None:
    error = ctypes.create_string_buffer(400)
    for arch in ("80", "86", "89", "90", "120", "121"):
        with emulator.settings(arch=arch):
            assert library().lowbit_cuda_device(b"quantize", error, ctypes.c_int64(400)) == 0, error.value


def test_refusal() -> None:
    """No emulated device is one that was not built for: the sentence alone."""
    error = ctypes.create_string_buffer(400)
    assert library().lowbit_cuda_refusal(b"quantize", 100, error, ctypes.c_int64(400)) != 0
    assert error.value.decode() == (
        "quantize: the device must be one that the kernels were built for (sm_80, sm_89, sm_90, sm_120f), got sm_100; "
        "build with LOWBIT_CUDA_ARCHS=100 or move the tensors to the CPU"
    )
