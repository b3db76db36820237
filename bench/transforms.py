"""Rows of what is bound by memory: the Hadamard transform, and codes made, read and moved, each beside a copy."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import floors
import torch
from ceilings import Ceilings
from lowbit import microbench, ops
from lowbit.spec import FormatSpec
from torch import Tensor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
COPY = "copy"


@dataclass(frozen=True)
class Row:
    """A call beside a copy: `bytes` are those that it reads and writes, copy_us is for as many. error: of the result
    against the definition, or of codes against what they stand for."""

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

    def to_dict(self) -> dict[str, Any]:
        return {key: float(f"{v:.4g}") if isinstance(v, float) else v for key, v in asdict(self).items()}


def hadamard(
    n: int, dtype: str, ceilings: Ceilings, threads: int, rows: int = 1024, seconds: float = 0.3
) -> Iterator[Row]:
    x = torch.randn(rows, n, generator=torch.Generator().manual_seed(n)).to(DTYPES[dtype])
    out, there = torch.empty_like(x), x.clone()
    error = _transform_error(x[:3])
    calls: dict[str, Callable[[int], object]] = {
        "out of place": lambda _: torch.ops.lowbit.hadamard.out(x, out=out),
        "in place": lambda _: torch.ops.lowbit.hadamard.out(there, out=there),
        COPY: lambda _: out.copy_(x),
    }
    samples = microbench.sampled(calls, 7, seconds)
    for place in ("out of place", "in place"):
        floor = floors.transform(n, x.numel(), samples[COPY].median, ceilings.rates, threads)
        yield _row(
            "hadamard", f"{n}, {dtype}, {place}", threads, samples[place], samples[COPY], error, 2 * x.nbytes, floor
        )


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
    text: str, ceilings: Ceilings, threads: int, shape: tuple[int, int] = (4096, 4096), seconds: float = 0.3
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
    for op, (call, moved) in timed.items():
        source = torch.ones(moved // 8)
        calls = {op: call, COPY: lambda _, source=source: source.clone()}
        samples = microbench.sampled(calls, 5, seconds)
        floor = floors.Floor(samples[COPY].median, "memory")
        yield _row(op, text, threads, samples[op], samples[COPY], error, moved, floor)


def _row(
    op: str,
    what: str,
    threads: int,
    sample: microbench.Sample,
    copy: microbench.Sample,
    error: float,
    moved: int,
    floor: floors.Floor,
) -> Row:
    return Row(
        op, what, threads, 1e6 * sample.median, 1e6 * sample.least, 1e6 * copy.median, sample.spread, sample.noisy,
        error, moved, floor.bound, floor.fraction(sample.median),
    )  # fmt: skip
