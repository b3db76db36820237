"""`make gpu-check`: the tests of this folder on a GPU. `python -m cuda.gpu` says whether there is one and runs them
with this module as a plugin, which puts the CUDA runtime in place of the emulator, and `torch.ops.lowbit` on CUDA
tensors in place of the bindings on it. Tests that name no architecture run on the device's own, and float tests know
one model of tensor cores. What only an emulator can do (counts, mapped memory, other devices) is skipped, and says so.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from emu import emulator
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent.parent


def why_not() -> str:
    """Why nothing can be checked here; empty where a GPU is there and lowbit's kernels are loaded."""
    import lowbit

    if torch.version.cuda is None:
        return f"torch {torch.__version__} has no CUDA"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    return lowbit.capabilities()["cuda"]["reason"]


def code_of(library: ctypes.CDLL, capability: int) -> str:
    """The architecture whose machine code of `library` runs on a device of this compute capability."""
    suffix = ctypes.c_char()
    sm = library.lowbit_cuda_select(capability, ctypes.byref(suffix))
    return f"{sm}{suffix.value.decode().strip(chr(0))}"


class Moved:
    """An op, or a namespace of ops, whose CPU tensors go to a device and come back: results, and what was written."""

    def __init__(self, target: Any, device: str) -> None:
        self._target, self._device = target, device

    def __getattr__(self, name: str) -> Moved:
        return Moved(getattr(self._target, name), self._device)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        moved: list[tuple[Tensor, Tensor]] = []

        def there(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            storage = value.untyped_storage().clone() if self._device == "cpu" else value.untyped_storage().cuda()
            other = torch.empty(0, dtype=value.dtype, device=self._device)
            other.set_(storage, value.storage_offset(), value.size(), value.stride())
            moved.append((value, other))
            return other

        got = self._target(*map(there, args), **{name: there(value) for name, value in kwargs.items()})
        for here, other in moved:
            here.untyped_storage().copy_(other.untyped_storage())
        outputs = got if isinstance(got, (tuple, list)) else (got,)
        back = []
        for t in outputs:
            same = [here for here, other in moved if t is other]
            back.append(same[0] if same else t.cpu() if isinstance(t, Tensor) else t)
        return type(got)(back) if isinstance(got, (tuple, list)) else back[0]


def _only_emulated(what: str) -> Callable[..., Any]:
    def skip(*_: Any, **__: Any) -> Any:
        pytest.skip(f"{what}: of the emulator alone")

    return skip


# what a module is about, where that is no GPU
EMULATED = {
    "test_accesses": "counts what kernels access",
    "test_built": "asks the bindings on the emulator",
    "test_gemm_accesses": "counts what kernels access",
    "test_gpu": "tries this without a GPU",
    "test_kernels": "tries the order of blocks",
    "test_instruction_coverage": "compares with the instructions that the emulator runs",
    "test_plane_accesses": "counts what kernels access",
    "test_predict": "predicts from the emulator's counts",
    "test_unbuilt": "puts another device in the emulator's place",
}


def use(runtime: ctypes.CDLL, arch: str, ops: Any) -> None:
    """Puts a CUDA runtime, and ops for CPU tensors, in the place of the emulator's. Tests are imported after it."""
    from cuda import emulated, kernels

    for module in (emulated, kernels):
        module.ARCH, module.MODELS = arch, ("hardware",)
    runtime.cudaMalloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    runtime.cudaFree.argtypes = [ctypes.c_void_p]
    runtime.cudaMemcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

    @contextmanager
    def settings(**values: object) -> Iterator[None]:
        if values.get("arch", arch) != arch:
            pytest.skip(f"of sm_{values['arch']} alone: the device runs the code of sm_{arch}")
        yield

    @contextmanager
    def silent() -> Iterator[None]:
        yield
        assert runtime.cudaDeviceSynchronize() == 0, "the device reports an error"

    answers = {"arch": arch, "seed": "0", "mma": "hardware"}
    replaced: dict[str, Any] = {
        "_library": lambda: runtime,
        "_error": lambda: "see cudaGetErrorString",
        "get": lambda name: answers.get(name, ""),
        "settings": settings,
        "silent": silent,
        "clear": lambda: None,
        "reports": list,
    }
    for name in ("set_", "counts", "predict", "listed_instructions", "mapped", "Module", "registered_opcodes", "load"):
        replaced[name] = _only_emulated(name)
    for name, value in replaced.items():
        setattr(emulator, name, value)
    emulated.ops = cache(lambda: ops)


def pytest_configure() -> None:
    from lowbit import library

    major, minor = torch.cuda.get_device_capability()
    code = code_of(ctypes.CDLL(str(library.CUDA_FILE)), 10 * major + minor)
    use(ctypes.CDLL("libcudart.so.13"), code, Moved(torch.ops.lowbit, "cuda"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of tests that run for each architecture, and under each model of the tensor cores, those of the device."""
    here = {"arch": emulator.get("arch"), "model": "hardware", "mma": "hardware"}

    def runs(item: pytest.Item) -> bool:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        return all(params.get(name, value) == value for name, value in here.items())

    config.hook.pytest_deselected(items=[i for i in items if not runs(i)])
    items[:] = [i for i in items if runs(i)]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if reason := EMULATED.get(item.path.stem):
        pytest.skip(f"of the emulator alone: {reason}")


def main() -> int:
    reason = why_not()
    if reason:
        print(
            f"gpu-check: nothing was checked: {reason}; make test runs the CUDA kernels on the emulator",
            file=sys.stderr,
        )
        return 1
    print(f"gpu-check: {torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    commands = (
        [sys.executable, "-m", "pytest", "-p", "cuda.gpu", "-p", "no:xdist", "tests/cuda"],
        [sys.executable, "bench/gpu.py"],
    )
    return max(subprocess.run(command, cwd=ROOT).returncode for command in commands)


if __name__ == "__main__":
    sys.exit(main())
