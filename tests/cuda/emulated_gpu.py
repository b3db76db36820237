"""The plugin of `make gpu-check` with the emulator in the part of the GPU: its runtime under the name of CUDA's, its ops
under that of the device's. LOWBIT_EMU_ARCH is the device, LOWBIT_EMU_MMA should say hardware.
"""

from __future__ import annotations

from cuda import emulated, gpu, kernels
from cuda.gpu import pytest_collection_modifyitems, pytest_runtest_setup
from emu import emulator

__all__ = ["pytest_collection_modifyitems", "pytest_configure", "pytest_runtest_setup"]

def pytest_configure() -> None:
    runtime, ops = emulator._library(), emulated.ops()
    code = gpu.code_of(kernels.library(), int(emulator.get("arch").rstrip("af")))
    gpu.use(runtime, code, gpu.Moved(ops, "cpu"))
