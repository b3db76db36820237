"""Rows of products: lowbit and the peers of the width on one weight, interleaved, with a bandwidth probe at M = 1."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import floors
import peers
import torch
import torch.nn.functional as F
from cases import Product
from ceilings import PROBE_BYTES, Ceilings
from lowbit import _C, microbench, ops
from lowbit.spec import FormatSpec
from torch import Tensor

# by activations the same: a product is as wrong as its rounding of the activations makes it
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PROBE, OWN = "probe", "lowbit"
# of a row, at full effort: rounds to M of 16 and beyond, and seconds that one contender may take
FEW_ROWS, ROUNDS, ROUNDS_BEYOND, MOST_SECONDS = 16, 9, 5, 0.5
# what a row takes, about, at full effort: some seconds, and one for so many products, those of the peers with them
SECONDS_OF_ROW, PRODUCTS_OF_SECOND = 3, 1 << 30


@dataclass(frozen=True)
class Entry:
    """One contender of a row. of_limit: of the floor of its own bytes and activations, not of lowbit's."""

    name: str
    activation: str
    us: float
    least_us: float
    spread: float
    noisy: bool
    error: float
    bytes: int
    bound: str
    of_limit: float


@dataclass(frozen=True)
class Row:
    """spread, noisy: the worst among lowbit, its fastest peer and the probe. refused: contenders that are not timed,
    and why."""

    threads: int
    m: int
    n: int
    k: int
    weight: str
    activation: str
    kernel: str
    read_gb_s: float
    spread: float
    noisy: bool
    entries: list[Entry]
    refused: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(
            self, dict_factory=lambda items: {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in items}
        )


def peer_width(weight: str) -> tuple[int, int]:
    """Bits and group that peers quantize the same weight to."""
    spec = FormatSpec.parse(weight, "weight")
    rule = weight.partition(":")[2]
    return int(spec.bits), int(rule[1:]) if rule[:1] == "g" else 0


class PeerCache:
    """What each library offers for the last weight: one of the same shape and group may have the same."""

    def __init__(self, files: tuple[str, ...] = peers.FILES):
        self.files = files
        self.key: object = None
        self.found: dict[str, peers.Found] = {}

    def get(self, dense: Tensor, weight: str, threads: int) -> list[peers.Found]:
        bits, group = peer_width(weight)
        key = (dense.shape, group, threads)
        if key != self.key:
            self.found.clear()
            self.key = key
        for file in self.files:
            held = self.found.get(file)
            if held is None or not held.narrowest <= bits <= held.bits:
                self.found.pop(file, None)  # before the next ones are made: both may not fit
                del held
                self.found[file] = peers.collect(peers.Problem(dense, bits, group, threads), file)
        return [self.found[file] for file in self.files]


def cost(case: Product) -> float:
    """Of measuring a case, about in seconds."""
    return len(case.activations) * sum(SECONDS_OF_ROW + m * case.n * case.k / PRODUCTS_OF_SECOND for m in case.rows)


def measure(
    case: Product,
    dense: Tensor,
    ceilings: Ceilings,
    threads: int,
    cache: PeerCache,
    effort: float = 1.0,
    seconds: float = 0.5,
    pages: str = "4k",
    probe_bytes: int = PROBE_BYTES,
) -> Iterator[Row]:
    """The rows of a case. effort: of the repeats, what shall be made."""
    weight = microbench.QuantizedWeight(dense, case.weight, True)
    found = cache.get(dense, case.weight, threads)
    for activation in case.activations:
        for m in case.rows:
            with torch.inference_mode(), ceilings.buffer(probe_bytes, pages) as buffer:
                probe = partial(ceilings.read, buffer, probe_bytes, threads) if m == 1 else None
                yield _row(
                    case, weight, found, m, activation, ceilings, threads, effort, seconds, probe, pages, probe_bytes
                )


def _row(
    case: Product,
    weight: microbench.QuantizedWeight,
    found: list[peers.Found],
    m: int,
    activation: str,
    ceilings: Ceilings,
    threads: int,
    effort: float,
    seconds: float,
    probe: Callable[[], float] | None,
    pages: str,
    probe_bytes: int,
) -> Row:
    x = torch.randn(m, case.k, generator=torch.Generator().manual_seed(m))
    own = peers.Candidate(OWN, activation, weight.dense, weight.bytes, partial(_bind, weight, activation))
    calls, errors, timed = {}, {}, {}
    refused = {name: why for of_file in found for name, why in of_file.missing.items()}
    offered = [(candidate, of_file.warm) for of_file in found for candidate in of_file.candidates]
    for candidate, warm in ((own, {OWN}), *offered):
        try:
            call = candidate.bind(x)
            got = call(peers.CHECK).float()
        except Exception as error:  # of foreign code
            if candidate is own:
                raise
            refused[candidate.name] = peers.first_line(error)
            continue
        if candidate is own:
            kernel = _C.last_kernel()
        error = microbench.relative_error(got, F.linear(_seen(x, candidate.activation), candidate.dense))
        if not error < microbench.WRONG:
            if candidate is own:
                raise ValueError(
                    f"bench: weight {weight.format} with activation {activation} must be right to be timed, "
                    f"got a relative error of {error:.3g} on {_C.isa()}; run the tests"
                )
            refused[candidate.name] = f"wrong: relative error {error:.3g}"
            continue
        if candidate.name not in warm:
            for turn in range(peers.copy_count()):
                call(turn)  # libraries compile, pack or cache a weight when they first see it
            warm.add(candidate.name)
        # what stands in the results is the error against exact activations
        exact = F.linear(x, candidate.dense)
        calls[candidate.name], timed[candidate.name] = call, candidate
        errors[candidate.name] = microbench.relative_error(got, exact)
    if probe is not None:
        calls[PROBE] = lambda _: probe()
    rounds = round(effort * (ROUNDS if m <= FEW_ROWS else ROUNDS_BEYOND))
    samples = microbench.sampled(
        calls, max(microbench.FEWEST, rounds), effort * seconds, 2 if effort == 1 else 1, effort * MOST_SECONDS,
        _deciding, lead=timed if m == 1 else (),
    )  # fmt: skip
    spread = max(samples[name].spread for name in _deciding(samples))
    read = probe_bytes / samples[PROBE].median if probe is not None else ceilings.rates[f"read_{pages}"][threads]
    entries = []
    for name, candidate in timed.items():
        floor = floors.product(
            (m, case.n, case.k),
            candidate.bytes,
            case.weight,
            candidate.activation,
            read,
            ceilings.rates,
            threads,
            _C.isa(),
            tiles=candidate is not own,
        )
        s = samples[name]
        entries.append(
            Entry(
                name, candidate.activation, 1e6 * s.median, 1e6 * s.least, s.spread, s.noisy, errors[name],
                candidate.bytes, floor.bound, floor.fraction(s.median),
            )
        )  # fmt: skip
    return Row(
        threads, m, case.n, case.k, weight.format, activation, kernel, read / 1e9, spread, spread > microbench.SPREAD,
        entries, refused,
    )  # fmt: skip


def _deciding(samples: Mapping[str, microbench.Sample]) -> list[str]:
    """What the row is read for: lowbit, its fastest peer, the probe."""
    others = [name for name in samples if name not in (OWN, PROBE)]
    return [name for name in (OWN, PROBE) if name in samples] + sorted(others, key=lambda o: samples[o].median)[:1]


def _bind(weight: microbench.QuantizedWeight, activation: str, x: Tensor) -> Callable[[int], Tensor]:
    given, x_format = (x.to(DTYPES[activation]), None) if activation in DTYPES else (x, activation)
    k = x.shape[1]

    def call(turn: int) -> Tensor:
        codes = weight.codes[turn % len(weight.codes)]
        return ops.gemm(
            given, codes, weight.scale, weight.zero, weight.format, x_format=x_format, w_scale2=weight.scale2, k=k
        )

    return call


def _seen(x: Tensor, activation: str) -> Tensor:
    """The activations as a product of that kind sees them; peers with int8 ones differ in their blocks and are held to
    the exact ones."""
    if activation in DTYPES:
        return x.to(DTYPES[activation]).float()
    if activation == "int8":
        return x
    codes, scale, _, scale2 = ops.quantize(x, activation)
    return ops.dequantize(codes, scale, None, activation, x.shape[1], scale2=scale2 if scale2.numel() else None)
