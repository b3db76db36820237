"""What a GEMM on CUDA is bound by, predicted without a GPU: the kernels run on the PTX emulator, which counts what they
execute, and one table of published rates (csrc/emu/rt/rates.cpp) turns the counts into seconds.

Such a figure is a lower bound by the counts, no measurement: it knows nothing of latency. It is labelled "predicted"
wherever it is shown. The emulator is built in a source tree (`make emulated`) and is not in a wheel.
"""

import ctypes
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lowbit import ops
from lowbit.spec import FormatSpec

BUILD = Path(__file__).resolve().parents[2] / "build" / "emu"
DEVICES = ("80", "86", "89", "90", "120")
SHAPES = ((1, 4096, 4096), (64, 1024, 4096))
WEIGHTS = ("int4:g64", "int8:row")
ACTIVATIONS = ("bf16", "int8:row")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# what a shape takes to emulate: everything is counted, nothing is checked
_SETTINGS = {"races": "0", "uninitialized": "ignore"}


@dataclass(frozen=True)
class Prediction:
    """One GEMM on one architecture; `predicted` is always true.

    us: the bound, over all launches of the call. bound: what it is bound by in the launch that takes longest: "global"
    (memory), "tensor", "shared", "issue" or a class of instructions. thread_instructions, tensor: as executed, the
    latter mma of a warp by shape and types. least_bytes: what memory and chip must exchange. sector_bytes: what the
    accesses ask for. unrated: tensor instructions for which the architecture has no published rate; the bound leaves
    them out.
    """

    m: int
    n: int
    k: int
    weight: str
    activation: str
    arch: str
    board: str
    kernels: tuple[str, ...]
    us: float
    bound: str
    thread_instructions: int
    tensor: dict[str, int]
    least_bytes: int
    sector_bytes: int
    unrated: tuple[str, ...]
    predicted: bool = True

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"us": float(f"{self.us:.5g}")}


class Emulator:
    """The emulator and the CUDA bindings on it, in this process."""

    def __init__(self, build: Path = BUILD) -> None:
        runtime = Path(os.environ.get("LOWBIT_EMU_LIBRARY") or build / "emu" / "libcudart.so.13")
        bindings = Path(os.environ.get("LOWBIT_EMULATED_OPS") or build / "_emulated.so")
        for file in (runtime, bindings):
            if not file.exists():
                raise FileNotFoundError(
                    f"bench: --predict must have the emulator, which a wheel does not bring, got no {file}; "
                    "run it from a source tree after `make emulated`"
                )
        # by its full path and for all: the bindings ask for a libcudart.so.13 and find this one loaded
        self._library = ctypes.CDLL(str(runtime), mode=ctypes.RTLD_GLOBAL)
        if _address(ctypes.CDLL(None).cudaMalloc) != _address(self._library.cudaMalloc):
            raise ImportError(
                f"bench: --predict must find the emulator as the first CUDA runtime of the process, got that of torch "
                f"{torch.__version__}; use a torch without CUDA"
            )
        for name in ("emu_get", "emu_error", "emu_counts", "emu_predict"):
            getattr(self._library, name).restype = ctypes.c_char_p
        torch.ops.load_library(str(bindings))
        self._bindings = ctypes.CDLL(str(bindings))
        if not hasattr(self._bindings, "lowbit_cuda_select"):
            raise ImportError(
                f"bench: --predict must have bindings of this version, got {bindings}; run `make emulated`"
            )
        self.ops = torch.ops.lowbit_emu

    @contextmanager
    def settings(self, **values: str) -> Iterator[None]:
        before = {name: self._library.emu_get(name.encode()).decode() for name in values}
        try:
            for name, value in values.items():
                self._set(name, value)
            yield
        finally:
            for name, value in before.items():
                self._set(name, value)

    def _set(self, name: str, value: str) -> None:
        if self._library.emu_set(name.encode(), value.encode()) != 0:
            raise ValueError(f"bench: {self._library.emu_error().decode()}")

    def built_for(self, device: str) -> bool:
        return self._bindings.lowbit_cuda_select(int(device), ctypes.create_string_buffer(1)) != 0

    def clear(self) -> None:
        self._library.emu_clear_counts()

    def counts(self) -> list[dict[str, Any]]:
        return json.loads(self._library.emu_counts())

    def predict(self, global_bytes: int) -> list[dict[str, Any]]:
        return json.loads(self._library.emu_predict(ctypes.c_uint64(global_bytes)))


def _address(function: Any) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value


@cache
def emulator() -> Emulator:
    return Emulator()


def devices() -> tuple[str, ...]:
    """The architectures that the kernels were built for, as devices."""
    return tuple(d for d in DEVICES if emulator().built_for(d))


def _name(kernel: str) -> str:
    """A mangled name's own part: "gemm_narrow" of lowbit::cuda::gemm_narrow<...>."""
    at, parts = kernel.removeprefix("_ZN"), []
    while match := re.match(r"(\d+)", at):
        begin, end = match.end(), match.end() + int(match.group())
        parts.append(at[begin:end])
        at = at[end:]
    return parts[-1] if kernel.startswith("_ZN") and parts else kernel


def _predict(w: tuple[Tensor, ...], spec: str, k: int, x: Tensor, activation: str, arch: str) -> Prediction:
    codes, scale, zero, scale2 = w
    x_format = None if activation in _DTYPES else activation
    given = {"w_scale2": scale2 if scale2.numel() else None, "x_format": x_format, "k": k}
    emu = emulator()
    with emu.settings(arch=arch, **_SETTINGS):
        emu.clear()
        out = emu.ops.gemm(x, codes, scale, zero if zero.numel() else None, spec, **given)
        launches = emu.counts()
        least = sum(t.nbytes for t in (*w, x, out))
        # the launch of the products must read the weight; the others are bound by what they execute
        main = max(range(len(launches)), key=lambda i: launches[i]["thread_instructions"])
        bounds = emu.predict(0)
        bounds[main] = emu.predict(least)[main]
        emu.clear()
    longest = max(bounds, key=lambda b: b["seconds"])
    tensor: dict[str, int] = {}
    for launch in launches:
        for name, warps in launch["tensor"].items():
            tensor[name] = tensor.get(name, 0) + warps
    return Prediction(
        m=x.shape[0],
        n=out.shape[1],
        k=k,
        weight=spec,
        activation=activation,
        arch=f"sm_{arch}",
        board=longest["board"],
        kernels=tuple(_name(b["kernel"]) for b in bounds),
        us=1e6 * sum(b["seconds"] for b in bounds),
        bound=longest["bound"],
        thread_instructions=sum(launch["thread_instructions"] for launch in launches),
        tensor=tensor,
        least_bytes=least,
        sector_bytes=int(sum(b["sector_bytes"] for b in bounds)),
        unrated=tuple(sorted({name for b in bounds for name in b["unrated"]})),
    )


def run(
    shapes: Sequence[tuple[int, int, int]] = SHAPES,
    weights: Sequence[str] = WEIGHTS,
    activations: Sequence[str] = ACTIVATIONS,
    archs: Sequence[str] | None = None,
    *,
    prepacked: bool = True,
) -> Iterator[Prediction]:
    """Predicts every weight format with every activation at every shape (M, N, K) on every architecture.

    Args:
        archs: of DEVICES; None: those that the kernels were built for.
        prepacked: weights as tensor cores read them; False: as checkpoints hold them.
    """
    archs = devices() if archs is None else archs
    generator = torch.Generator().manual_seed(0)
    for m, n, k in shapes:
        dense, x = (torch.randn(rows, k, generator=generator) for rows in (n, m))
        for weight in weights:
            spec = FormatSpec.parse(weight, "--weight")
            codes, *scales = ops.quantize(dense, weight, asymmetric=spec.kind == "unsigned")
            if prepacked and not spec.is_complex:
                spec = spec.with_layout("mma64")
                codes = ops.prepack(codes, weight, k, layout="mma64")
            w = (codes, *scales)
            for activation in activations:
                for arch in archs:
                    yield _predict(
                        w, spec.text_with_layout, k, x.to(_DTYPES.get(activation, torch.bfloat16)), activation, arch
                    )
