"""Rows of what is bound by memory: the Hadamard transform, and codes made, read and moved, each beside a copy.

    LOWBIT_ISA=avx2 python bench/transforms.py < {"rates": ..., "threads": 1, "full": false}

prints the rows of another instruction set, which a process chooses once, as JSON.
"""

import ctypes
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import cases
import floors
import peers
import torch
from lowbit import _C, microbench, ops
from lowbit.spec import FormatSpec
from torch import Tensor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
COPY = "copy"
# names of glibc's mallopt
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


class Limits(Protocol):
    """What rows need of `ceilings.Ceilings`."""

    rates: dict[str, dict[int, float]]


@dataclass(frozen=True)
class Rates:
    """Limits that another process measured."""

    rates: dict[str, dict[int, float]]


def keep_pages() -> None:
    """Lets malloc keep what is freed. Else the result of every call lies in new pages, whose first touch takes longer
    than what is timed; where there is no mallopt, it does so on both sides."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@dataclass(frozen=True)
class Row:
    """A call beside a copy: `bytes` are those that it reads and writes, copy_us is for as many. error: of the result
    against the definition, or of codes against what they stand for. peer: the fastest of the other libraries that do
    the same; refused: those that are not timed, and why."""

    op: str
    what: str
    threads: int
    us: float
    least_us: float
    copy_us: float
    spread: float
    noisy: bool
    error: float
    bytes: int
    bound: str
    of_limit: float
    isa: str = field(default_factory=_C.isa)
    peer: str = ""
    peer_us: float = 0.0
    refused: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {key: float(f"{v:.4g}") if isinstance(v, float) else v for key, v in asdict(self).items()}


def hadamard(
    n: int, dtype: str, ceilings: Limits, threads: int, rows: int = 1024, seconds: float = 0.3
) -> Iterator[Row]:
    x = torch.randn(rows, n, generator=torch.Generator().manual_seed(n)).to(DTYPES[dtype])
    out, there = torch.empty_like(x), x.clone()
    error = _transform_error(x[:3])
    calls: dict[str, Callable[[int], object]] = {
        "out of place": lambda _: torch.ops.lowbit.hadamard.out(x, out=out),
        "in place": lambda _: torch.ops.lowbit.hadamard.out(there, out=there),
        COPY: lambda _: out.copy_(x),
    }
    others, refused = peers.collect_transforms(n, threads) if dtype == "float32" else ([], {})
    peer_of: dict[str, dict[str, str]] = {"out of place": {}, "in place": {}}
    for other in others:
        place = "in place" if other.in_place else "out of place"
        name = f"{other.name} {place}"
        try:
            wrong = microbench.relative_error(other.call(x[:3].clone()), torch.ops.lowbit.hadamard(x[:3], scale=1.0))
        except Exception as failure:  # of foreign code
            refused[name] = peers.first_line(failure)
            continue
        if not wrong < microbench.WRONG:
            refused[name] = f"wrong: relative error {wrong:.3g}"
            continue
        # unscaled sums would overflow where they are transformed again and again
        given = torch.zeros_like(x) if other.in_place else x
        calls[name] = lambda _, call=other.call, given=given: call(given)  # type: ignore[misc]
        peer_of[place][other.name] = name
    keep_pages()
    samples = microbench.sampled(calls, 7, seconds)
    for place, names in peer_of.items():
        floor = floors.transform(n, x.numel(), samples[COPY].median, ceilings.rates, threads, _C.isa())
        best = min(names, key=lambda name: samples[names[name]].median, default="")
        us = 1e6 * samples[names[best]].median if best else 0.0
        yield _row(
            "hadamard", f"{n}, {dtype}, {place}", threads, samples[place], samples[COPY], error, 2 * x.nbytes, floor,
            best, us, refused,
        )  # fmt: skip


def _transform_error(x: Tensor) -> float:
    """Back and forth must be x, and the length must stay; a transform that is neither is not timed."""
    n = x.shape[1]
    y = torch.ops.lowbit.hadamard(x.float(), scale=1.0)
    back = torch.ops.lowbit.hadamard(y, scale=1.0 / n, transpose=True)
    error = max(
        microbench.relative_error(back, x.float()), abs(float(y.norm() / (math.sqrt(n) * x.float().norm())) - 1)
    )
    return _right("hadamard", f"size {n}", error)


def _right(op: str, what: str, error: float) -> float:
    if not error < microbench.WRONG:
        raise ValueError(
            f"bench: {op} of {what} must be right to be timed, got a relative error of {error:.3g}; run the tests"
        )
    return error


def codecs(
    text: str, ceilings: Limits, threads: int, shape: tuple[int, int] = (4096, 4096), seconds: float = 0.3
) -> Iterator[Row]:
    """quantize (nearest and stochastic), dequantize, pack, unpack and prepack of one format."""
    spec = FormatSpec.parse(text, "format")
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    k = shape[1]
    codes, scale, _, scale2 = ops.quantize(x, text)
    second = scale2 if scale2.numel() else None
    seed = torch.tensor([0, 0])
    values = ops.dequantize(codes, scale, None, text, k, scale2=second)
    # a format has an error of its own; wrong is what its codes do not stand for: they must come back from their values
    again, *_ = ops.quantize(values, text, scale=scale, scale2=second)
    back = ops.dequantize(again, scale, None, text, k, scale2=second)
    _right("quantize", text, microbench.relative_error(back, values))
    error = microbench.relative_error(values, x)
    quantized = codes.nbytes + scale.nbytes + scale2.nbytes
    timed: dict[str, tuple[Callable[[int], object], int]] = {
        "quantize": (lambda _: ops.quantize(x, text), x.nbytes + quantized),
        "quantize stochastic": (
            lambda _: ops.quantize(x, text, rounding="stochastic", seed=seed),
            x.nbytes + quantized,
        ),
        "dequantize": (lambda _: ops.dequantize(codes, scale, None, text, k, scale2=second), x.nbytes + quantized),
    }
    if spec.canonical_layout == "planes":
        element = spec.element
        plain = ops.unpack(codes, element, k)
        if not torch.equal(ops.pack(plain, element), codes):
            raise ValueError(f"bench: pack of {element} must be right to be timed, got other codes than it was given")
        tiles = ops.prepack(codes, text, k)
        timed |= {
            "pack": (lambda _: ops.pack(plain, element), plain.nbytes + codes.nbytes),
            "unpack": (lambda _: ops.unpack(codes, element, k), plain.nbytes + codes.nbytes),
            "prepack": (lambda _: ops.prepack(codes, text, k), tiles.nbytes + codes.nbytes),
        }
    keep_pages()
    for op, (call, moved) in timed.items():
        source = torch.ones(moved // 8)
        calls = {op: call, COPY: lambda _, source=source: source.clone()}
        samples = microbench.sampled(calls, 5, seconds)
        floor = floors.Floor(samples[COPY].median, "memory")
        yield _row(op, text, threads, samples[op], samples[COPY], error, moved, floor)


def stochastic_round(
    text: str, ceilings: Limits, threads: int, shape: tuple[int, int] = (4096, 4096), seconds: float = 0.3
) -> Iterator[Row]:
    """Of the floats that come back as floats."""
    x = 100 * torch.rand(*shape, generator=torch.Generator().manual_seed(0))
    seed = torch.tensor([0, 0])
    rounded = ops.stochastic_round(x, text, seed)
    error = _right("stochastic_round", text, abs(float(rounded.double().mean() / x.double().mean()) - 1))
    moved = x.nbytes + rounded.nbytes
    source = torch.ones(moved // 8)
    keep_pages()
    calls = {"round": lambda _: ops.stochastic_round(x, text, seed), COPY: lambda _: source.clone()}
    samples = microbench.sampled(calls, 5, seconds)
    floor = floors.Floor(samples[COPY].median, "memory")
    yield _row("stochastic_round", text, threads, samples["round"], samples[COPY], error, moved, floor)


def _row(
    op: str,
    what: str,
    threads: int,
    sample: microbench.Sample,
    copy: microbench.Sample,
    error: float,
    moved: int,
    floor: floors.Floor,
    peer: str = "",
    peer_us: float = 0.0,
    refused: dict[str, str] | None = None,
) -> Row:
    return Row(
        op, what, threads, 1e6 * sample.median, 1e6 * sample.least, 1e6 * copy.median, sample.spread, sample.noisy,
        error, moved, floor.bound, floor.fraction(sample.median), peer=peer,
        peer_us=peer_us, refused=refused or {},
    )  # fmt: skip


def listed(full: bool, limits: Limits, threads: int) -> Iterator[tuple[str, Callable[[], Iterator[Row]]]]:
    """(name, what yields its rows) of the selection."""
    for n, dtype in cases.transforms(full):
        yield f"hadamard {n} {dtype}", lambda n=n, dtype=dtype: hadamard(n, dtype, limits, threads)  # type: ignore[misc]
    for text in cases.codecs(full):
        yield f"codes {text}", lambda text=text: codecs(text, limits, threads)  # type: ignore[misc]
    for text in cases.ROUNDED:
        yield f"stochastic_round {text}", lambda text=text: stochastic_round(text, limits, threads)  # type: ignore[misc]


def main() -> None:
    given = json.load(sys.stdin)
    threads = given["threads"]
    torch.set_num_threads(threads)
    limits = Rates({name: {int(t): rate for t, rate in of.items()} for name, of in given["rates"].items()})
    rows = [row.to_dict() for _, measure in listed(given["full"], limits, threads) for row in measure()]
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
