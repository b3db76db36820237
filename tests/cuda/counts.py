"""The one table of what kernels take on the emulator, of each loop on each architecture: `counts.csv`. Architectures
that take the same share a row.

LOWBIT_UPDATE_COUNTS=1 writes the rows of the tests that run, under one process or several, and drops those that no test
has: `LOWBIT_UPDATE_COUNTS=1 pytest -n auto tests/cuda -k "test_counts or accesses"`.
"""

from __future__ import annotations

import csv
import fcntl
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from cuda.kernels import ARCHS

TABLE = Path(__file__).with_name("counts.csv")
MOST = 1.02  # times the least
UPDATE = os.environ.get("LOWBIT_UPDATE_COUNTS") == "1"

Row = tuple[str, str]  # name, architecture


@dataclass(frozen=True)
class Counts:
    """Sectors of global memory and wavefronts of shared memory beside the least that the bytes asked for need; warp
    instructions issued, and mma among them."""

    sectors: int = 0
    sectors_least: int = 0
    wavefronts: int = 0
    wavefronts_least: int = 0
    warp_instructions: int = 0
    multiplies: int = 0

    @classmethod
    def of(cls, launches: list[dict[str, Any]]) -> Counts:
        """Of what `emulator.counts()` gave within `emulator.listed_instructions()`."""
        instructions = [i for launch in launches for i in launch["instructions"]]
        accesses = (sum(i[f.name] for i in instructions) for f in fields(cls)[:4])
        multiplies = sum(warps for launch in launches for warps in launch["tensor"].values())
        return cls(*accesses, sum(i["warps"] for i in instructions), multiplies)

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))


def read() -> dict[Row, Counts]:
    if not TABLE.exists():
        return {}
    table = {}
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            kernel, archs = row.pop("kernel"), row.pop("archs")
            found = Counts(**{name: int(value) for name, value in row.items()})
            table |= {(kernel, arch): found for arch in archs.split()}
    return table


@cache
def _read_once() -> dict[Row, Counts]:
    return read()


@contextmanager
def _rewritten() -> Iterator[dict[Row, Counts]]:
    """The table, to change. Other processes that change it wait, those that read it see the one or the other."""
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        table = read()
        yield table
        new = TABLE.with_suffix(f".{os.getpid()}")
        with new.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["kernel", "archs", *(f.name for f in fields(Counts))], lineterminator="\n")
            writer.writeheader()
            alike: dict[tuple[str, Counts], list[str]] = {}
            for kernel, arch in sorted(table, key=lambda row: (row[0], ARCHS.index(row[1]))):
                alike.setdefault((kernel, table[kernel, arch]), []).append(arch)
            for (kernel, found), archs in alike.items():
                writer.writerow({"kernel": kernel, "archs": " ".join(archs), **asdict(found)})
        new.replace(TABLE)


def check(row: Row, found: Counts) -> None:
    """That `found` is what the table has, and near the least there can be."""
    if UPDATE:
        with _rewritten() as table:
            table[row] = found
    assert found == (read() if UPDATE else _read_once())[row]
    assert 0 < found.sectors <= MOST * found.sectors_least
    assert found.wavefronts <= MOST * found.wavefronts_least


def check_rows(rows: Collection[Row]) -> None:
    """That the table has these rows alone, and all of them where it is not being written."""
    if UPDATE:
        with _rewritten() as table:
            for row in set(table) - set(rows):
                del table[row]
    table = read()
    assert set(table) <= set(rows)
    assert UPDATE or set(rows) <= set(table)
