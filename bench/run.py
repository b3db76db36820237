"""The suite: `make bench`. Ceilings first, then products beside the peers that are installed, transforms, codecs.

    python bench/run.py [--full] [--minutes 30] [--threads 1 2] [--out bench/results/<machine>.json]

What does not fit into --minutes is not measured, and named in the results. The result file is written as a whole, at
the end or on Ctrl-C, with what was measured until then.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cases
import products
import torch
import transforms
from ceilings import Ceilings, thread_counts
from lowbit import _C, microbench
from lowbit.progress import bar

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
MISSING = ROOT / "build" / "peers" / "missing.json"
Rows = Iterable[Any]


@contextmanager
def threads_of_torch(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine_name(processor: str, threads: int) -> str:
    """Of a result file."""
    words = re.sub(r"\((R|TM)\)|processor|cpu", " ", processor, flags=re.IGNORECASE)
    return "-".join([*re.findall(r"[a-z0-9]+", words.lower()), f"{threads}t"])


def tasks(
    full: bool, ceilings: Ceilings, threads: tuple[int, ...]
) -> Iterator[tuple[str, str, int, Callable[[], Rows]]]:
    """(list of the result, name, threads, what yields its rows), in the order of measuring."""
    held: dict[tuple[int, int], torch.Tensor] = {}

    def dense(n: int, k: int) -> torch.Tensor:
        if (n, k) not in held:
            held.clear()
            held[n, k] = torch.randn(n, k, generator=torch.Generator().manual_seed(0))
        return held[n, k]

    for t in threads:
        for name, measure in transforms.listed(full, ceilings, t):
            yield "transforms", name, t, measure
    if _C.isa() != "avx2":
        yield "transforms", "transforms on avx2", threads[0], partial(elsewhere, "avx2", ceilings, threads[0])
    cache = products.PeerCache()
    listed = list(cases.products(full))
    for shape in dict.fromkeys((case.n, case.k) for case in listed):
        of_shape = [case for case in listed if (case.n, case.k) == shape]
        # those with the same peers follow each other
        of_shape.sort(key=lambda case: products.peer_width(case.weight)[::-1])
        for t in threads:
            for case in of_shape:
                name = f"{case.n} x {case.k} {case.weight} with {', '.join(case.activations)}"
                yield "products", name, t, lambda c=case, t=t: products.measure(c, dense(c.n, c.k), ceilings, t, cache)


@dataclass(frozen=True)
class Measured:
    """A row that another process measured."""

    row: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return self.row


def elsewhere(isa: str, ceilings: Ceilings, threads: int) -> Rows:
    """The quick selection of transforms on another instruction set; a process reads LOWBIT_ISA once."""
    given = {"rates": ceilings.rates, "threads": threads, "full": False}
    done = subprocess.run(
        [sys.executable, ROOT / "bench" / "transforms.py"], input=json.dumps(given), capture_output=True, text=True,
        env=os.environ | {"LOWBIT_ISA": isa},
    )  # fmt: skip
    if done.returncode:
        raise ValueError(f"bench: transforms on {isa} must be measured, got {(done.stderr or '-').splitlines()[-1]}")
    return [Measured(row) for row in json.loads(done.stdout)]


def run(full: bool, minutes: float, threads: tuple[int, ...], ceilings: Ceilings) -> dict[str, Any]:
    began = time.perf_counter()
    ceilings.measure(threads)
    result: dict[str, Any] = {
        "machine": microbench.machine() | {"threads": list(threads)},
        "ceilings": ceilings.to_dict(),
        "missing": json.loads(MISSING.read_text()) if MISSING.is_file() else {},
        "products": [],
        "transforms": [],
        "not_measured": [],
        "wrong": [],
    }
    todo = list(tasks(full, ceilings, threads))
    with bar("bench", len(todo)) as advance:
        try:
            for kind, name, count, rows in todo:
                if time.perf_counter() - began > 60 * minutes:
                    result["not_measured"].append(f"{name}, {count} threads")
                else:
                    with threads_of_torch(count):
                        _append(result, kind, rows)
                advance(1)
        except KeyboardInterrupt:
            result["not_measured"].append("interrupted")
    result["minutes"] = round((time.perf_counter() - began) / 60, 1)
    return result


def _append(result: dict[str, Any], kind: str, rows: Callable[[], Rows]) -> None:
    """A result of lowbit that is wrong is an error of the whole run, told at its end: the other rows still count."""
    try:
        result[kind] += [row.to_dict() for row in rows()]
    except ValueError as error:
        result["wrong"].append(str(error))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="every width, group and shape")
    parser.add_argument("--minutes", type=float, default=28, help="no row begins later than this")
    parser.add_argument("--threads", type=int, nargs="+", default=thread_counts())
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    result = run(args.full, args.minutes, tuple(args.threads), Ceilings())
    processor, count = result["machine"]["processor"], max(args.threads)
    out = args.out or RESULTS / f"{machine_name(processor, count)}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    rows = len(result["products"]) + len(result["transforms"])
    print(f"{out}: {rows} rows in {result['minutes']} minutes, {len(result['not_measured'])} not measured")
    measured = result["products"] + result["transforms"]
    missing = result["missing"] | {k: v for row in measured for k, v in row["refused"].items()}
    for name, why in missing.items():
        print(f"not timed: {name}: {why}")
    if result["wrong"]:
        raise SystemExit("\n".join(result["wrong"]))


if __name__ == "__main__":
    main()
