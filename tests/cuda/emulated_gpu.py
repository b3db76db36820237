"""The plugin of `make gpu-check` with the emulator in the part of the GPU: of its library what CUDA's runtime has too,
and its ops. LOWBIT_EMU_ARCH is the device; LOWBIT_EMU_MMA must say hardware.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from cuda import emulated, gpu, kernels
from cuda.gpu import pytest_collection_modifyitems, pytest_runtest_setup
from emu import emulator

__all__ = ["pytest_collection_modifyitems", "pytest_configure", "pytest_runtest_setup"]


def pytest_configure() -> None:
    library, ops = emulator._library(), emulated.ops()
    calls = ("cudaMalloc", "cudaFree", "cudaMemcpy", "cudaDeviceSynchronize")
    runtime = cast(Any, SimpleNamespace(**{name: getattr(library, name) for name in calls}))
    code = gpu.code_of(kernels.library(), int(emulator.get("arch").rstrip("af")))
    gpu.use(runtime, code, gpu.Moved(ops, "cpu"))
