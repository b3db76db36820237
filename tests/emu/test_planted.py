"""Every checker is proved by a planted bug: it is caught where it stands, and the repaired kernel passes in silence."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from emu import emulator
from emu.toolchain import ROOT, compile_cuda

FOLDER = Path(__file__).resolve().parent / "planted"


@dataclass(frozen=True)
class Bug:
    name: str  # of the source
    kernel: str
    finding: str
    error: int  # what the runtime gives the program
    at: tuple[str, ...]  # opcodes one of which stands in the line of the report
    blocks: int
    threads: int
    other: bool = False  # a second party is named
    also: tuple[str, ...] = ()  # what the same bug may show as besides


# 700 illegal address, 702 timeout, 716 misaligned address, 719 launch failure
BUGS = (
    Bug("missing_syncthreads", "reverse", "race", 719, ("ld.shared", "st.shared"), 3, 128, True, ("uninitialized",)),
    Bug("missing_syncwarp", "rotate", "race", 719, ("ld.shared", "st.shared"), 1, 64, True, ("uninitialized",)),
    Bug("missing_cp_async_wait", "stage", "async_in_flight", 719, ("ld.shared",), 1, 64),
    Bug("refilled_stage", "pipeline", "race", 719, ("cp.async", "ld.shared"), 1, 128, True, ("async_in_flight",)),
    Bug("missing_threadfence", "split_k", "race", 719, ("ld.global", "st.global"), 5, 64, other=True),
    Bug("off_by_one_read", "differences", "out_of_bounds", 700, ("ld.global",), 3, 32),
    Bug("misaligned_load", "load", "misaligned", 716, ("ld.global.v4", "ld.global.nc.v4"), 1, 32),
    Bug("unwritten_shared", "sum", "uninitialized", 719, ("ld.shared",), 1, 64),
    Bug("unwritten_global", "count", "uninitialized", 719, ("ld.global",), 1, 32),
    Bug("divergent_barrier", "halves", "divergent_barrier", 719, ("bar.sync", "barrier.sync"), 1, 64, other=True),
    Bug("block_race", "accumulate", "race", 719, ("ld.global", "st.global"), 4, 32, other=True),
    Bug("endless_spin", "wait", "endless_spin", 702, ("",), 2, 32),
    Bug("endless_barrier_spin", "look", "endless_spin", 702, ("",), 1, 96),
    Bug("counting_spin", "wait", "endless_spin", 702, ("",), 2, 32),
    Bug("counting_barrier_spin", "look", "endless_spin", 702, ("",), 1, 96),
)
SOURCES = sorted(path.stem for path in FOLDER.glob("*.cu"))


def built(name: str, *, repaired: bool) -> Path:
    flags = ("-DREPAIRED",) if repaired else ()
    return compile_cuda(FOLDER / f"{name}.cu", flags=flags, depends=(FOLDER / "planted.h",))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_bug_is_caught(bug: Bug, seed: int) -> None:
    program = emulator.load(built(bug.name, repaired=False))
    emulator.clear()
    with emulator.settings(seed=seed, spin_limit=200_000):
        error = program.run()
    found = emulator.reports()
    emulator.clear()
    kinds = {r["finding"] for r in found}
    assert bug.finding in kinds
    assert kinds <= {bug.finding, *bug.also}
    report = next(r for r in found if r["finding"] == bug.finding)
    assert error == bug.error
    assert bug.kernel in report["kernel"]
    assert 0 <= report["block"][0] < bug.blocks
    assert report["block"][1:] == [0, 0]
    assert 0 <= report["thread"][0] < bug.threads
    assert report["thread"][1:] == [0, 0]
    assert report["line"] > 0
    assert any(opcode in report["text"] for opcode in bug.at), report["sentence"]
    assert (report["other"] is not None) >= bug.other
    if bug.other:
        assert report["other"]["line"] > 0
        assert (report["other"]["block"], report["other"]["thread"]) != (report["block"], report["thread"])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", SOURCES)
def test_repaired_kernel_passes_in_silence(name: str, seed: int) -> None:
    program = emulator.load(built(name, repaired=True))
    with emulator.settings(seed=seed), emulator.silent():
        assert program.run() == 0


@pytest.mark.parametrize("name", ["unwritten_shared", "unwritten_global"])
def test_carried_poison_is_reported_where_it_is_stored(name: str) -> None:
    program = emulator.load(built(name, repaired=False))
    emulator.clear()
    with emulator.settings(uninitialized="use"):
        assert program.run() == 719
    found = emulator.reports()
    emulator.clear()
    assert {r["finding"] for r in found} == {"uninitialized"}
    assert "st.global" in found[0]["text"]


def test_host_dereference_is_named() -> None:
    """It ends the process, as a real one: the sentence says what it was."""
    library = built("host_dereference", repaired=False)
    script = f"from emu import emulator; emulator.load({str(library)!r}).run()"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT / "tests", timeout=120
    )
    assert done.returncode == -11
    assert "the host dereferenced device address" in done.stderr


def test_every_planted_source_is_tested() -> None:
    assert {bug.name for bug in BUGS} | {"host_dereference"} == set(SOURCES)
