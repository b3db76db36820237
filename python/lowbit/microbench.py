"""Times of `lowbit::gemm` over weight formats, activations and shapes, beside `torch.nn.functional.linear`.

The candidates of a shape take turns, one call each, with the caches emptied before every call as they are inside a
model; the median counts. A candidate whose result is wrong is refused, not timed.
"""

import os
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lowbit import _C, ops
from lowbit.capabilities import capabilities
from lowbit.progress import Advance
from lowbit.spec import FormatSpec

SHAPES = ((1, 4096, 4096), (512, 4096, 4096))
WEIGHTS = (
    *(f"int{bits}:g64" for bits in range(1, 9)),
    "int4:row",
    "uint4:g64",
    "nf4:g64",
    "float8_e4m3fn:row",
    "mxfp4",
    "nvfp4",
)
ACTIVATIONS = ("fp32", "bf16", "int8:row")
ROUNDS = 9
_SLOW_S = 1.0  # a call longer than this is timed once
_FLUSH_BYTES = 1 << 28
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# relative error of the whole output: a wrong kernel is far beyond, rounding to bfloat16 (2^-9) far within
_WRONG = 0.02


@dataclass(frozen=True)
class Timing:
    """One candidate at one shape. `bandwidth_us` is the least time its weight bytes need from memory, by the read
    bandwidth of this run; `to_linear` is the time of F.linear in fp32 over the candidate's."""

    m: int
    n: int
    k: int
    weight: str
    activation: str
    kernel: str
    us: float
    spread_us: float
    weight_bytes: int
    bandwidth_us: float
    to_linear: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Candidate:
    weight: str
    activation: str
    weight_bytes: int
    call: Callable[[], Tensor]
    expected: Callable[[], Tensor]


def _linear(w: Tensor, x: Tensor, name: str) -> _Candidate:
    weight, inputs = w.to(_DTYPES[name]), x.to(_DTYPES[name])
    return _Candidate(name, name, weight.nbytes, lambda: F.linear(inputs, weight), lambda: F.linear(x, w))


def _gemm(w: Tensor, x: Tensor, weight: str, activation: str) -> _Candidate:
    """The weight as a module holds it (prepacked where its layout has tiles), the activation quantized in the call."""
    spec = FormatSpec.parse(weight, "--weight")
    k = w.shape[1]
    codes, scale, zero, scale2 = ops.quantize(w, weight, asymmetric=spec.kind == "unsigned")
    zeros, scales2 = (t if t.numel() else None for t in (zero, scale2))
    dequantized = ops.dequantize(codes, scale, zeros, weight, k, scale2=scales2)
    packed, packed_format = codes, weight
    if spec.canonical_layout == "planes" and not spec.is_complex:
        packed, packed_format = ops.prepack(codes, weight, k), spec.with_layout("tile16").text_with_layout
    held = sum(t.nbytes for t in (packed, scale, zeros, scales2) if t is not None)

    dtype = _DTYPES.get(activation)
    inputs, x_format = (x, activation) if dtype is None else (x.to(dtype), None)

    def expected() -> Tensor:
        if x_format is None:
            return F.linear(inputs.float(), dequantized)
        xq, xs, _, xs2 = ops.quantize(x, x_format)
        return F.linear(ops.dequantize(xq, xs, None, x_format, k, scale2=xs2 if xs2.numel() else None), dequantized)

    return _Candidate(
        weight,
        activation,
        held,
        lambda: ops.gemm(inputs, packed, scale, zeros, packed_format, x_format=x_format, w_scale2=scales2, k=k),
        expected,
    )


def read_bandwidth() -> float:
    """Bytes a second that all threads together read from memory: the best of a few sums over a large buffer."""
    buffer = torch.ones(_FLUSH_BYTES // 4)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        buffer.sum()
        best = max(best, buffer.nbytes / (time.perf_counter() - start))
    return best


def machine() -> dict[str, Any]:
    """Where and with what the times were taken, for a result file."""
    known = capabilities()
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "processor": names[0] if names else known["machine"],
        "cpus": os.cpu_count(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "read_gb_s": read_bandwidth() / 1e9,
        **{key: known[key] for key in ("isa", "threads", "torch", "version")},
    }


def _check(candidate: _Candidate) -> None:
    got, want = candidate.call().double(), candidate.expected().double()
    error = ((got - want).norm() / want.norm()).item()
    if not error < _WRONG:
        raise ValueError(
            f"bench: weight {candidate.weight} with activation {candidate.activation} must be right to be timed, "
            f"got a relative error of {error:.3g} on {_C.isa()}; run the tests"
        )


@torch.inference_mode()
def run(
    shapes: Sequence[tuple[int, int, int]] = SHAPES,
    weights: Sequence[str] = WEIGHTS,
    activations: Sequence[str] = ACTIVATIONS,
    rounds: int = ROUNDS,
    advance: Advance | None = None,
) -> list[Timing]:
    """Times every weight format with every activation at every shape (M, N, K); F.linear in fp32 and bf16 come first.

    `advance` is called for each candidate that was checked: 2 + len(weights) * len(activations) a shape.
    """
    flush = torch.ones(_FLUSH_BYTES // 4)
    bandwidth = read_bandwidth()
    out: list[Timing] = []
    for m, n, k in shapes:
        generator = torch.Generator().manual_seed(0)
        w = torch.randn(n, k, generator=generator)
        x = torch.randn(m, k, generator=generator)
        candidates: list[_Candidate] = []
        kernels: list[str] = []
        slow: list[bool] = []
        makers = [partial(_linear, name=name) for name in _DTYPES]
        makers += [partial(_gemm, weight=weight, activation=a) for weight in weights for a in activations]
        for make in makers:
            candidate = make(w, x)
            _check(candidate)
            start = time.perf_counter()
            candidate.call()
            slow.append(time.perf_counter() - start > _SLOW_S)
            candidates.append(candidate)
            kernels.append("torch" if make.func is _linear else _C.last_kernel())
            if advance is not None:
                advance(1)
        times: list[list[float]] = [[] for _ in candidates]
        for turn in range(rounds):
            for i, candidate in enumerate(candidates):
                if turn and slow[i]:
                    continue
                flush.add_(1)
                start = time.perf_counter()
                candidate.call()
                times[i].append(1e6 * (time.perf_counter() - start))
        base = statistics.median(times[0])
        for candidate, kernel, spent in zip(candidates, kernels, times, strict=True):
            us = statistics.median(spent)
            out.append(
                Timing(
                    m=m,
                    n=n,
                    k=k,
                    weight=candidate.weight,
                    activation=candidate.activation,
                    kernel=kernel,
                    us=us,
                    spread_us=max(spent) - min(spent),
                    weight_bytes=candidate.weight_bytes,
                    bandwidth_us=1e6 * candidate.weight_bytes / bandwidth,
                    to_linear=base / us,
                )
            )
    return out
