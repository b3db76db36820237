"""The CUDA kernels on the emulator: `_cuda_kernels.so` through its C entry points (csrc/cuda/c_api), with torch tensors
as what goes in and comes out."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_char_p, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from emu import emulator
from emu.toolchain import build_cuda_kernels
from torch import Tensor

ARCHS = ("80", "89", "90", "120f")
CODE = {"86": "80", "121": "120f"}  # devices that run the code of another architecture
# What a test runs on that names no architecture, and how tensor cores add there. `make gpu-check` (gpu.py) puts what
# the device is in their place, before a test takes them.
ARCH = "80"
MODELS = ("exact", "hardware")
Result = TypeVar("Result")
DTYPES = {
    t: i for i, t in enumerate((torch.float32, torch.bfloat16, torch.float16, torch.int32, torch.int8, torch.uint8))
}
FINDINGS = {"non_finite": 1, "scale_overflow": 2, "bad_code": 4, "bad_scale": 8}


class KernelError(RuntimeError):
    """A Status that is not ok."""


@cache
def library() -> ctypes.CDLL:
    emulator.get("arch")  # the emulator's libcudart first: the kernels ask for a libcudart.so.13
    given = os.environ.get("LOWBIT_CUDA_KERNELS")
    return ctypes.CDLL(str(Path(given) if given else build_cuda_kernels()))


class CMatrix(ctypes.Structure):
    _fields_ = [("data", c_void_p), *((n, c_int64) for n in ("dtype", "rows", "cols", "row_stride", "col_stride"))]


class CValues(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("dtype", c_int64)]


class CCall(ctypes.Structure):
    _fields_ = [
        ("stream", c_void_p), ("workspace", c_void_p), ("workspace_bytes", c_int64), ("findings", c_void_p),
        ("seed", c_void_p), ("multiprocessors", c_int64),
    ]  # fmt: skip


class CQuantize(ctypes.Structure):
    _fields_ = [
        ("x", CMatrix), ("format", c_char_p), ("codebook", c_void_p), ("codes", c_void_p), ("scale", CValues),
        ("scale2", CValues), ("zero", CValues),
        *((n, c_int64) for n in ("rows", "cols", "given", "asymmetric", "stochastic", "seed", "offset", "first_row",
                                 "hadamard", "plain")),
    ]  # fmt: skip


class CWeight(ctypes.Structure):
    _fields_ = [
        ("format", c_char_p), ("codebook", c_void_p), ("codes", c_void_p), ("scale", CValues), ("scale2", CValues),
        ("scale_imaginary", CValues), ("zero", CValues), ("rows", c_int64), ("cols", c_int64), ("plain", c_int64),
    ]  # fmt: skip


class CDequantize(ctypes.Structure):
    _fields_ = [
        ("w", CWeight), ("ids", c_void_p), ("out", CMatrix), ("offsets", c_void_p), ("cols", c_void_p),
        ("values", c_void_p), ("values_dtype", c_int64), ("high_format", c_char_p), ("high_codes", c_void_p),
        ("high_groups", c_void_p), ("high_count", c_int64), ("high_cols", c_int64), ("group", c_int64),
    ]  # fmt: skip


class CUpdate(ctypes.Structure):
    _fields_ = [
        ("w", CWeight), ("dw", CMatrix), ("new_scale", CValues), ("new_zero", CValues),
        *((n, c_int64) for n in ("seed", "offset", "first_row", "rescale")),
    ]  # fmt: skip


class CHadamard(ctypes.Structure):
    _fields_ = [
        ("x", CMatrix), ("out", CMatrix), ("block", c_int64), ("sign", c_void_p), ("sign_length", c_int64),
        ("scale", ctypes.c_double), ("transpose", c_int64), ("engine", c_int64),
    ]  # fmt: skip


def raw(t: Tensor) -> np.ndarray:
    """The bytes of a tensor's storage, which stays alive with them; bytes(storage) would be a tensor op a byte."""
    return torch.empty(0, dtype=torch.uint8).set_(t.untyped_storage()).numpy()


class Device:
    """A torch tensor's storage on the device, strides and all."""

    def __init__(self, t: Tensor) -> None:
        self.like = t
        self.array = emulator.array(raw(t)) if t.numel() else emulator.empty(1, np.uint8)
        self.pointer = self.array.pointer + t.storage_offset() * t.element_size()

    def matrix(self, rows: int | None = None) -> CMatrix:
        t = self.like
        row_stride, col_stride = (t.stride(0), t.stride(1)) if t.dim() == 2 else (t.numel(), 1)
        shape = t.shape if t.dim() == 2 else (1, t.numel())
        return CMatrix(self.pointer, DTYPES[t.dtype], rows or shape[0], shape[1], row_stride, col_stride)

    def values(self) -> CValues:
        return CValues(self.pointer, DTYPES[self.like.dtype])

    def get(self) -> Tensor:
        t = self.like
        if t.numel() == 0:
            return t.clone()
        flat = torch.frombuffer(bytearray(self.array.get().tobytes()), dtype=t.dtype)
        return torch.as_strided(flat, t.shape, t.stride(), t.storage_offset())


def unwritten(t: Tensor) -> Device:
    """Device memory like t, which holds nothing yet."""
    out = Device.__new__(Device)
    out.like = t
    out.array = emulator.empty(max(t.numel() * t.element_size(), 1), np.uint8)
    out.pointer = out.array.pointer
    return out


class Call:
    """What a launcher takes beside its arguments; `finish()` gives the findings."""

    def __init__(self, workspace: int, seed: Sequence[int] | None = None) -> None:
        self.workspace = emulator.empty(max(workspace, 1), np.uint8)
        self.findings = emulator.array(np.zeros(1, np.int32))
        self.seed = emulator.array(np.array(seed, np.int64)) if seed is not None else None
        seed_pointer = self.seed.pointer if self.seed is not None else None
        self.c = CCall(
            None, self.workspace.pointer if workspace else None, workspace, self.findings.pointer, seed_pointer
        )

    def run(self, name: str, *args: object) -> set[str]:
        error = ctypes.create_string_buffer(1000)
        passed = [ctypes.byref(a) if isinstance(a, ctypes.Structure) else a for a in args]
        if getattr(library(), name)(*passed, ctypes.byref(self.c), error, c_int64(len(error))) != 0:
            raise KernelError(error.value.decode())
        found = int(self.findings.get()[0])
        return {word for word, bit in FINDINGS.items() if found & bit}


@contextmanager
def on(arch: str | None = None, seed: int | None = None, **settings: object) -> Iterator[None]:
    """The body runs on an emulated device and must leave no finding of its checkers."""
    given = settings if seed is None else settings | {"seed": seed}
    with emulator.settings(arch=arch or ARCH, **given), emulator.silent():
        yield


def same_bits(a: Any, b: Any) -> bool:
    """Of tensors, and of what is made of them."""
    if isinstance(a, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and _bytes(a) == _bytes(b)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same_bits, a, b))
    return a == b


def _bytes(t: Tensor) -> bytes:
    flat = torch.empty(t.numel(), dtype=t.dtype).copy_(t.reshape(-1))  # one element may have any stride
    return flat.view(torch.uint8).numpy().tobytes()


_once = False


@contextmanager
def once() -> Iterator[None]:
    """`twice` makes its call once, as what counts launches wants it."""
    global _once
    before, _once = _once, True
    try:
        yield
    finally:
        _once = before


def twice(call: Callable[[], Result]) -> Result:
    """`call()`, of which a second run, whose blocks (and warps, where a seed orders them) take turns in another order,
    gives the same bits."""
    first = call()
    if _once:
        return first
    # the seed is also the order of the sums of the model "hardware"
    hardware = emulator.get("mma") == "hardware"
    with emulator.settings(**({"order": "ascending"} if hardware else {"seed": int(emulator.get("seed")) + 1})):
        second = call()
    assert same_bits(first, second), "two runs differ"
    return first


def workspace(name: str, args: ctypes.Structure) -> int:
    function = getattr(library(), name)
    function.restype = c_int64
    return int(function(ctypes.byref(args)))
