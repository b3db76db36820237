"""Times of `lowbit::gemm` over weight formats, activations and shapes, beside `torch.nn.functional.linear`.

A candidate and both linears (fp32 and bf16) take turns, one call each, every call on the next of several copies of its
weight, so that at M = 1 the weights are not those that the last call left in a cache. A row holds the medians, and the
ratio of the least times as well, which neighbours on the machine disturb less. A candidate whose result is wrong is
refused, not timed.
"""

import math
import os
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
from lowbit.spec import FormatSpec
from lowbit.tensor import QuantTensor

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
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# relative error of the whole output: a wrong kernel is far beyond, rounding to bfloat16 (2^-9) far within
WRONG = 0.02


@dataclass(frozen=True)
class Timing:
    """One weight with one activation at one shape.

    us, linear_fp32_us, linear_bf16_us: medians of the call and of F.linear. to_linear: the median of F.linear in fp32
    over the call's; best_to_linear: the same of the least times. gb_s, gop_s: what the quickest call reached of the two
    floors, bytes of the weight (`weight_bytes`, as the call reads them) and operations a second.
    """

    m: int
    n: int
    k: int
    weight: str
    activation: str
    kernel: str
    us: float
    linear_fp32_us: float
    linear_bf16_us: float
    to_linear: float
    best_to_linear: float
    weight_bytes: int
    gb_s: float
    gop_s: float

    def to_dict(self) -> dict[str, Any]:
        return {key: float(f"{v:.5g}") if isinstance(v, float) else v for key, v in asdict(self).items()}


# beyond this spread a row is measured again, and marked if it does not settle
SPREAD = 0.15
# times that have quartiles
FEWEST = 3


@dataclass(frozen=True)
class Sample:
    """Seconds of one call. spread: the distance of the quartiles over the median."""

    median: float
    least: float
    spread: float

    @staticmethod
    def of(times: Sequence[float]) -> "Sample":
        median = statistics.median(times)
        low, _, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else (median,) * 3
        return Sample(median, min(times), (high - low) / median)

    @property
    def noisy(self) -> bool:
        return self.spread > SPREAD


def interleaved(
    calls: Mapping[str, Callable[[int], object]],
    rounds: int,
    seconds: float = 0.0,
    most: float = math.inf,
    lead: Collection[str] = (),
) -> dict[str, list[float]]:
    """Seconds of each call. They take turns, in both orders by turns, since a call finds the caches and clock that the
    one before left: `rounds` times, and on until `seconds` are over, after one round that does not count. A call is
    given the number of its round; one that took `most` seconds in all takes no more turns than FEWEST. One that works
    in another thread may say by an attribute `seconds` how long its last turn took, without the way there and back.
    `lead`: names of calls whose turn comes after that of the round before once more, which does not count, so that
    their code is in the caches, as in a model that calls it layer after layer."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    end, turn = time.perf_counter() + seconds, 0
    going = list(calls)
    while going and (turn <= rounds or time.perf_counter() < end):
        for name in going if turn % 2 == 0 else reversed(going):
            if turn and name in lead:
                calls[name](turn - 1)
            start = time.perf_counter()
            calls[name](turn)
            if turn:
                times[name].append(getattr(calls[name], "seconds", time.perf_counter() - start))
        turn += 1
        going = [name for name in going if len(times[name]) < FEWEST or sum(times[name]) < most]
    return times


def sampled(
    calls: Mapping[str, Callable[[int], object]],
    rounds: int,
    seconds: float = 0.0,
    tries: int = 2,
    most: float = math.inf,
    judged: Callable[[Mapping[str, Sample]], Collection[str]] = tuple,
    lead: Collection[str] = (),
) -> dict[str, Sample]:
    """`interleaved`, again where a spread exceeds SPREAD, `tries` times in all; the try with the least such spread
    counts, whole, since its calls shared the same minutes. `judged` names the calls whose spread is looked at, all
    unless told: where many calls take turns, one that nobody will read is nearly always noisy."""
    found: list[tuple[float, dict[str, Sample]]] = []
    for _ in range(tries):
        times = interleaved(calls, rounds, seconds, most, lead)
        samples = {name: Sample.of(of_call) for name, of_call in times.items()}
        found.append((max(samples[name].spread for name in judged(samples)), samples))
        if found[-1][0] <= SPREAD:
            break
    return min(found, key=lambda each: each[0])[1]


def relative_error(got: Tensor, want: Tensor) -> float:
    """Of the whole, in the Frobenius norm."""
    return float((got.double() - want.double()).norm() / want.double().norm())


def read_bandwidth() -> float:
    """Bytes a second that all threads together read from memory: the best of a few sums over a large buffer."""
    buffer = torch.ones(1 << 26)
    best = min(interleaved({"sum": lambda _: buffer.sum()}, rounds=4)["sum"])
    return buffer.nbytes / best


def machine() -> dict[str, Any]:
    """Where and with what times are taken, for a result file."""
    known = capabilities()
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "processor": names[0] if names else known["machine"],
        "cpus": os.cpu_count(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "compiler": _C.compiler,
        "commit": _commit(),
        **{key: known[key] for key in ("isa", "threads", "torch", "version")},
    }


def _commit() -> str:
    """That of the source tree this file stands in; "unknown" for an installed package."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def cache_bytes() -> int:
    """What copies of a weight exceed together: twice the last cache, at least 128 MiB."""
    sizes = [path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    last = max((int(size[:-1]) << 10 for size in sizes if size.endswith("K")), default=0)
    return min(max(128 << 20, 2 * last), 512 << 20)


def copy_count(size: int) -> int:
    return cache_bytes() // max(1, size) + 2


def copies(t: Tensor) -> list[Tensor]:
    """As many as exceed the caches together, at least two."""
    return [t.clone() for _ in range(copy_count(t.nbytes))]


class QuantizedWeight:
    """A quantized weight: as modules hold it (prepacked where it has such a layout), or canonical."""

    def __init__(self, dense: Tensor, text: str, prepacked: bool):
        spec = FormatSpec.parse(text, "--weight")
        held = QuantTensor.quantize(dense, text, asymmetric=spec.kind == "unsigned")
        self.dense = held.dequantize()
        if prepacked:
            held = held.prepack()
        codes, self.scale, self.zero, self.scale2 = held.codes, held.scale, held.zero, held.scale2
        self.format = held.spec.text_with_layout
        self.bytes = sum(t.nbytes for t in (codes, self.scale, self.zero, self.scale2) if t is not None)
        self.codes = copies(codes)


def _measure(w: QuantizedWeight, linears: dict[str, list[Tensor]], m: int, activation: str, rounds: int) -> Timing:
    n, k = w.dense.shape
    x = torch.randn(m, k, generator=torch.Generator().manual_seed(m))
    xs = {name: x.to(dtype) for name, dtype in _DTYPES.items()}
    inputs, x_format = (xs[activation], None) if activation in xs else (x, activation)

    def call(turn: int) -> Tensor:
        codes = w.codes[turn % len(w.codes)]
        return ops.gemm(inputs, codes, w.scale, w.zero, w.format, x_format=x_format, w_scale2=w.scale2, k=k)

    seen = inputs.float()
    if x_format is not None:
        xq, x_scale, _, x_scale2 = ops.quantize(x, x_format)
        seen = ops.dequantize(xq, x_scale, None, x_format, k, scale2=x_scale2 if x_scale2.numel() else None)
    error = relative_error(call(0), F.linear(seen, w.dense))
    if not error < WRONG:
        raise ValueError(
            f"bench: weight {w.format} with activation {activation} must be right to be timed, "
            f"got a relative error of {error:.3g} on {_C.isa()}; run the tests"
        )
    kernel = _C.last_kernel()

    def linear(name: str, turn: int) -> Tensor:
        return F.linear(xs[name], linears[name][turn % len(linears[name])])

    samples = sampled({"lowbit": call} | {name: partial(linear, name) for name in linears}, rounds, tries=1)
    median = {name: sample.median for name, sample in samples.items()}
    best = {name: sample.least for name, sample in samples.items()}
    return Timing(
        m=m,
        n=n,
        k=k,
        weight=w.format,
        activation=activation,
        kernel=kernel,
        us=1e6 * median["lowbit"],
        linear_fp32_us=1e6 * median["fp32"],
        linear_bf16_us=1e6 * median["bf16"],
        to_linear=median["fp32"] / median["lowbit"],
        best_to_linear=best["fp32"] / best["lowbit"],
        weight_bytes=w.bytes,
        gb_s=w.bytes / best["lowbit"] / 1e9,
        gop_s=2 * m * n * k / best["lowbit"] / 1e9,
    )


def run(
    shapes: Sequence[tuple[int, int, int]] = SHAPES,
    weights: Sequence[str] = WEIGHTS,
    activations: Sequence[str] = ACTIVATIONS,
    rounds: int | None = None,
    *,
    prepacked: bool = True,
) -> Iterator[Timing]:
    """Times every weight format with every activation at every shape (M, N, K).

    Args:
        rounds: calls of each; None: 30 for M of at most 16, else 5.
        prepacked: as modules hold weights; False: as checkpoints hold them.
    """
    for n, k in dict.fromkeys((n, k) for _, n, k in shapes):
        dense = torch.randn(n, k, generator=torch.Generator().manual_seed(0))
        linears = {name: copies(dense.to(dtype)) for name, dtype in _DTYPES.items()}
        for weight in weights:
            w = QuantizedWeight(dense, weight, prepacked)
            for m in (m for m, *rest in shapes if rest == [n, k]):
                for activation in activations:
                    with torch.inference_mode():
                        yield _measure(w, linears, m, activation, rounds or (30 if m <= 16 else 5))
