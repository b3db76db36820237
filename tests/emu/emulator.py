"""The emulator for tests: built on demand, loaded once, driven through csrc/emu/rt/control.h."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from emu.toolchain import build_emulator

Shape = int | tuple[int, ...]


class EmulatorError(RuntimeError):
    """A call that the emulator refused, with its sentence."""


@cache
def _library() -> ctypes.CDLL:
    # by its full path and for all: objects of nvcc that ask for libcudart.so.13 find this one loaded
    library = ctypes.CDLL(str(build_emulator()), mode=ctypes.RTLD_GLOBAL)
    first, own = (ctypes.cast(x.cudaMalloc, ctypes.c_void_p).value for x in (ctypes.CDLL(None), library))
    if first != own:
        raise EmulatorError(
            "the emulator must be the first libcudart.so.13 of the process, got that of a torch with CUDA; "
            "make .venv anew with a torch without CUDA: make clean; "
            "make test TORCH='torch --index-url https://download.pytorch.org/whl/cpu'"
        )
    for name in ("emu_get", "emu_error", "emu_reports", "emu_counts", "emu_predict", "emu_kernels", "emu_opcodes"):
        getattr(library, name).restype = ctypes.c_char_p
    library.emu_waits.restype = ctypes.c_uint64
    library.emu_predict.argtypes = [ctypes.c_uint64]
    library.emu_kernels.argtypes = library.emu_opcodes.argtypes = [ctypes.c_void_p]
    library.emu_map.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int]
    library.emu_unmap.argtypes = [ctypes.c_void_p]
    library.emu_module_load.restype = ctypes.c_void_p
    library.emu_module_unload.argtypes = [ctypes.c_void_p]
    pointer, size = ctypes.c_void_p, ctypes.c_uint64
    library.emu_module_launch.argtypes = [pointer, ctypes.c_char_p, pointer, pointer, size, pointer, size]
    library.cudaMalloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.cudaFree.argtypes = [ctypes.c_void_p]
    library.cudaMemcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return library


def _error() -> str:
    return _library().emu_error().decode()


def _check(code: int, call: str) -> None:
    if code != 0:
        raise EmulatorError(f"{call}: error {code}: {_error()}")


def set_(name: str, value: object) -> None:
    _check(_library().emu_set(name.encode(), str(value).encode()), f"emu_set({name})")


def get(name: str) -> str:
    value = _library().emu_get(name.encode())
    if value is None:
        raise EmulatorError(_error())
    return value.decode()


@contextmanager
def settings(**values: object) -> Iterator[None]:
    """Settings of rt/control.h for the body: settings(arch="89", seed=3, mma="hardware")."""
    before = {name: get(name) for name in values}
    try:
        for name, value in values.items():
            set_(name, value)
        yield
    finally:
        for name, text in before.items():
            set_(name, text)


def reports() -> list[dict[str, Any]]:
    return json.loads(_library().emu_reports())


def clear() -> None:
    """Forgets reports and counts, and the device's sticking error."""
    _library().emu_clear_reports()
    _library().emu_clear_counts()


def counts() -> list[dict[str, Any]]:
    return json.loads(_library().emu_counts())


def waits() -> int:
    """Calls since the counts were cleared for which the host waits until the device is done."""
    return int(_library().emu_waits())


def predict(global_bytes: int = 0) -> list[dict[str, Any]]:
    return json.loads(_library().emu_predict(global_bytes))


@contextmanager
def listed_instructions() -> Iterator[None]:
    """counts() of launches in the body list every instruction."""
    _library().emu_count_instructions(1)
    try:
        yield
    finally:
        _library().emu_count_instructions(0)


@contextmanager
def silent() -> Iterator[None]:
    """The body must leave no finding."""
    clear()
    yield
    found = reports()
    assert not found, "\n".join(r["sentence"] for r in found)


class DeviceArray:
    """Device memory with the shape and type of a NumPy array."""

    def __init__(self, shape: Shape, dtype: Any) -> None:
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.dtype = np.dtype(dtype)
        self.nbytes = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        pointer = ctypes.c_void_p()
        _check(_library().cudaMalloc(ctypes.byref(pointer), max(self.nbytes, 1)), "cudaMalloc")
        self.pointer = pointer.value or 0

    def set(self, values: np.ndarray) -> DeviceArray:
        contiguous = np.ascontiguousarray(values, dtype=self.dtype)
        assert contiguous.nbytes == self.nbytes
        _check(_library().cudaMemcpy(self.pointer, contiguous.ctypes.data, self.nbytes, 1), "cudaMemcpy")
        return self

    def get(self) -> np.ndarray:
        out = np.empty(self.shape, self.dtype)
        _check(_library().cudaMemcpy(out.ctypes.data, self.pointer, self.nbytes, 2), "cudaMemcpy")
        return out

    def __del__(self) -> None:
        if getattr(self, "pointer", 0):
            _library().cudaFree(self.pointer)


def array(values: np.ndarray) -> DeviceArray:
    values = np.asarray(values)
    return DeviceArray(values.shape, values.dtype).set(values)


def empty(shape: Shape, dtype: Any) -> DeviceArray:
    """Unwritten device memory."""
    return DeviceArray(shape, dtype)


@contextmanager
def mapped(*arrays: np.ndarray, initialized: bool = True) -> Iterator[None]:
    """Host arrays that kernels of the body see at their own addresses."""
    done: list[np.ndarray] = []
    try:
        for a in arrays:
            _check(_library().emu_map(a.ctypes.data, a.nbytes, int(initialized)), "emu_map")
            done.append(a)
        yield
    finally:
        for a in done:
            _library().emu_unmap(a.ctypes.data)


def _packed(arguments: Sequence[Any]) -> bytes:
    """Parameters one after the other, each at a multiple of its size; Python integers are 32 bits, floats f32."""
    out = bytearray()
    for argument in arguments:
        if isinstance(argument, DeviceArray):
            value = np.uint64(argument.pointer)
        elif isinstance(argument, bool) or (isinstance(argument, int) and -(2**31) <= argument < 2**31):
            value = np.int32(argument)
        elif isinstance(argument, int):
            value = np.uint32(argument) if 0 <= argument < 2**32 else np.int64(argument)
        elif isinstance(argument, float):
            value = np.float32(argument)
        else:
            value = argument
        raw = value if isinstance(value, bytes) else value.tobytes()
        align = 1 if isinstance(value, bytes) else value.itemsize
        out += b"\0" * (-len(out) % align) + raw
    return bytes(out)


def _three(size: Shape) -> Any:
    sizes = (size,) if isinstance(size, int) else tuple(size)
    return (ctypes.c_uint32 * 3)(*sizes, *([1] * (3 - len(sizes))))


class Module:
    """Kernels of a PTX text."""

    def __init__(self, ptx: str) -> None:
        self._handle = _library().emu_module_load(ptx.encode())
        if not self._handle:
            raise EmulatorError(_error())

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            _library().emu_module_unload(self._handle)

    def kernels(self) -> list[str]:
        return json.loads(_library().emu_kernels(self._handle))

    def opcodes(self) -> dict[str, list[str]]:
        return json.loads(_library().emu_opcodes(self._handle))

    def try_launch(self, kernel: str, grid: Shape, block: Shape, *arguments: Any, shared: int = 0) -> int:
        """The CUDA error that the launch gives; -1 where the call itself was refused (EmulatorError of launch())."""
        packed = _packed(arguments)
        return _library().emu_module_launch(
            self._handle, kernel.encode(), _three(grid), _three(block), shared, packed, len(packed)
        )

    def launch(self, kernel: str, grid: Shape, block: Shape, *arguments: Any, shared: int = 0) -> None:
        _check(self.try_launch(kernel, grid, block, *arguments, shared=shared), kernel)


def registered_opcodes() -> dict[str, list[str]]:
    """Opcodes of every kernel of the loaded objects, as the set architecture has them."""
    return json.loads(_library().emu_opcodes(None))


def load(path: Any) -> ctypes.CDLL:
    """A shared object of nvcc, its runtime calls answered by the emulator."""
    _library()
    return ctypes.CDLL(str(path))
