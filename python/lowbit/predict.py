"""What an op on CUDA is bound by, predicted without a GPU: its kernels run on the PTX emulator, which counts what they
execute, and one table of published rates (csrc/emu/rt/rates.cpp) turns the counts into seconds.

Such a figure is a lower bound by the counts, no measurement: it knows nothing of latency. It is labelled "predicted"
wherever it is shown. The emulator is built in a source tree (`make emulated`) and is not in a wheel.
"""

import ctypes
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
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
DEVICES = ("80", "86", "89", "90", "120", "121")
SHAPES = ((1, 4096, 4096), (64, 1024, 4096))
WEIGHTS = ("int4:g64", "int8:row")
ACTIVATIONS = ("bf16", "int8:row")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# what a shape takes to emulate: everything is counted, nothing is checked
_SETTINGS = {"races": "0", "uninitialized": "ignore"}

Call = tuple[
    list[Tensor], Callable[[Any], Any]
]  # what an op reads, and the op, given the namespace of the emulated ones


@dataclass(frozen=True)
class Prediction:
    """One call of an op on one architecture; `predicted` is always true.

    m, n, k: of the product; of the other ops n rows (of hadamard m) of k columns, and the third is 0. weight,
    activation: formats or dtypes, "" where the op has none. us: the bound, over all launches of the call. bound: what
    it is bound by in the launch that takes longest: "global" (memory), "tensor", "shared" (its wavefronts), "issue" or
    a class of instructions. thread_instructions, tensor: as executed, the latter mma of a warp by shape and types.
    least_bytes: what memory and chip must exchange. sector_bytes: what the accesses ask for. wavefronts: of shared
    memory. unrated: tensor instructions for which the architecture has no published rate; the bound leaves them out.
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
    op: str = "gemm"
    wavefronts: int = 0
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


def _predict(arch: str, call: Call, **what: Any) -> Prediction:
    inputs, run_op = call
    emu = emulator()
    with emu.settings(arch=arch, **_SETTINGS):
        emu.clear()
        out = run_op(emu.ops)
        launches = emu.counts()
        outputs = out if isinstance(out, tuple) else (out,)
        least = sum(t.nbytes for t in (*inputs, *outputs))
        # the launch that does most must move them; the others are bound by what they execute
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
        arch=f"sm_{arch}",
        board=longest["board"],
        kernels=tuple(_name(b["kernel"]) for b in bounds),
        us=1e6 * sum(b["seconds"] for b in bounds),
        bound=longest["bound"],
        thread_instructions=sum(launch["thread_instructions"] for launch in launches),
        tensor=tensor,
        least_bytes=least,
        sector_bytes=int(sum(b["sector_bytes"] for b in bounds)),
        wavefronts=sum(of["wavefronts"] for launch in launches for of in launch["classes"].values()),
        unrated=tuple(sorted({name for b in bounds for name in b["unrated"]})),
        **what,
    )


def _optional(t: Tensor) -> Tensor | None:
    return t if t.numel() else None


def _gemm(w: Sequence[Tensor], spec: str, x: Tensor, activation: str) -> Call:
    codes, scale, zero, scale2 = w
    x_format = None if activation in _DTYPES else activation
    given = {"w_scale2": _optional(scale2), "x_format": x_format, "k": x.shape[1]}
    return [*w, x], lambda emulated: emulated.gemm(x, codes, scale, _optional(zero), spec, **given)


def _quantized(x: Tensor, spec: FormatSpec) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return ops.quantize(x, spec.text, asymmetric=spec.kind == "unsigned")


def _hadamard(x: Tensor) -> Call:
    return [x], lambda emulated: emulated.hadamard(x)


def _quantize(x: Tensor, spec: FormatSpec) -> Call:
    return [x], lambda emulated: emulated.quantize(x, spec.text, asymmetric=spec.kind == "unsigned")


def _dequantize(x: Tensor, spec: FormatSpec) -> Call:
    codes, scale, zero, scale2 = w = _quantized(x, spec)
    given = {"scale2": _optional(scale2), "out_dtype": x.dtype}
    return list(w), lambda emulated: emulated.dequantize(codes, scale, _optional(zero), spec.text, x.shape[1], **given)


def _stochastic_round(x: Tensor, spec: FormatSpec) -> Call:
    seed = torch.tensor([0, 0])
    return [x, seed], lambda emulated: emulated.stochastic_round(x, spec.element, seed)


def _pack(x: Tensor, spec: FormatSpec) -> Call:
    codes = ops.unpack(_quantized(x, spec)[0], spec.element, x.shape[1])
    return [codes], lambda emulated: emulated.pack(codes, spec.element)


_OF_WEIGHT = {
    "quantize": _quantize,
    "dequantize": _dequantize,
    "stochastic_round": _stochastic_round,
    "pack": _pack,
}
# gemm, then what is bound by memory: hadamard of the activation [M, K], the others of the weight [N, K]
OPS = ("gemm", "hadamard", *_OF_WEIGHT)


def parts(names: Sequence[str], weights: Sequence[str], activations: Sequence[str]) -> list[tuple[str, str, str]]:
    """(op, weight, activation) of each call of a shape; "" where the op takes none."""
    dtypes = [a for a in activations if a in _DTYPES]
    found: list[tuple[str, str, str]] = []
    for name in names:
        of_weights = [""] if name == "hadamard" else weights
        of_activations = activations if name == "gemm" else [""] if name == "pack" else dtypes
        found += [(name, w, a) for w in of_weights for a in of_activations]
    return found


def _call(
    name: str, weight: str, activation: str, dense: Tensor, x: Tensor, prepacked: bool
) -> tuple[Call, dict[str, Any]]:
    """A call, and what the Prediction says of it."""
    dtype = _DTYPES.get(activation, torch.bfloat16)
    if name == "hadamard":
        return _hadamard(x.to(dtype)), {"m": len(x), "n": 0, "weight": weight, "activation": activation}
    spec = FormatSpec.parse(weight, "--weight")
    if name != "gemm":
        what = {"m": 0, "n": len(dense), "weight": weight, "activation": activation}
        return _OF_WEIGHT[name](dense.to(dtype), spec), what
    codes, *scales = _quantized(dense, spec)
    if prepacked and not spec.is_complex and (spec.block_rows == 1 or len(dense) % 16 == 0):
        codes = ops.prepack(codes, spec.text, x.shape[1], layout="mma64")
        spec = spec.with_layout("mma64")
    what = {"m": len(x), "n": len(dense), "weight": spec.text_with_layout, "activation": activation}
    return _gemm((codes, *scales), spec.text_with_layout, x.to(dtype), activation), what


def run(
    shapes: Sequence[tuple[int, int, int]] = SHAPES,
    weights: Sequence[str] = WEIGHTS,
    activations: Sequence[str] = ACTIVATIONS,
    archs: Sequence[str] | None = None,
    *,
    prepacked: bool = True,
    names: Sequence[str] = OPS[:1],
) -> Iterator[Prediction]:
    """Predicts every op with every weight format and activation that it takes, at every shape (M, N, K), on every
    architecture.

    Args:
        archs: of DEVICES; None: those that the kernels were built for.
        prepacked: weights as tensor cores read them; False: as checkpoints hold them.
        names: of OPS. Those that are bound by memory take the activations that are dtypes.
    """
    archs = devices() if archs is None else archs
    generator = torch.Generator().manual_seed(0)
    for m, n, k in shapes:
        dense, x = (torch.randn(rows, k, generator=generator) for rows in (n, m))
        for name, weight, activation in parts(names, weights, activations):
            call, what = _call(name, weight, activation, dense, x, prepacked)
            for arch in archs:
                yield _predict(arch, call, op=name, k=k, **what)
