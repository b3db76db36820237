"""The machine code of every kernel: the instructions that are meant for the architecture, no local memory."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from cuda import sass
from cuda.kernels import ARCHS, library


@pytest.fixture(scope="module")
def built() -> Path:
    return Path(library()._name)


def rows_of(name: str) -> list[sass.Row]:
    return [row for row in sass.ROWS if re.fullmatch(row.kernel, name)]


def faults(kernel: sass.Kernel, row: sass.Row, arch: str) -> list[str]:
    found = [f"lacks {o}" for o in (*row.needs, *row.per_arch.get(arch, ())) if not kernel.has(o)]
    found += [f"has {o}" for o in row.never if kernel.has(o)]
    found += [f"has {o}" for o in kernel.opcodes if o.split(".")[0] in ("LDL", "STL")]
    if kernel.local:
        found.append(f"uses {kernel.local} bytes of local memory")
    return found


@pytest.mark.parametrize("arch", ARCHS)
def test_kernels_are_made_of_what_they_should(built: Path, arch: str) -> None:
    kernels = sass.kernels(built, arch)
    bad = []
    print(f"\nsm_{arch}: kernel, registers, static shared bytes, occupancy")
    for name, kernel in sorted(kernels.items()):
        rows = rows_of(name)
        if len(rows) != 1 or arch not in rows[0].archs:
            bad.append(f"{name}: has {len(rows)} rows in tests/cuda/sass.py")
            continue
        share = sass.occupancy(kernel, arch, rows[0].threads, rows[0].dynamic_shared)
        print(f"  {name:50} {kernel.registers:4} {kernel.shared:6} {100 * share:4.0f} %")
        bad += [f"{name}: {fault}" for fault in faults(kernel, rows[0], arch)]
        if share == 0:
            bad.append(f"{name}: no block of {rows[0].threads} threads fits")
    absent = [r.kernel for r in sass.ROWS if arch in r.archs and not any(re.fullmatch(r.kernel, n) for n in kernels)]
    bad += [f"{name}: is not there" for name in absent]
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("arch", ARCHS)
def test_instances_are_few(built: Path, arch: str) -> None:
    for family, (rows, most) in sass.FAMILIES.items():
        names = [n for n in sass.kernels(built, arch) if any(re.fullmatch(row.kernel, n) for row in rows)]
        assert len(names) <= most, f"{family} has {len(names)} kernels"


def test_a_fault_is_seen() -> None:
    kernel = sass.Kernel("k", Counter({"LDG.E.128.CONSTANT": 1, "STL.64": 1}), registers=40, local=8)
    assert kernel.has("LDG.E.128")
    assert kernel.has("LDG.128")
    assert not kernel.has("LDG.E.64")
    row = sass.Row("k", 256, ("LDG.E.128", "SHFL.BFLY"), never=("LDG.E.128",))
    assert faults(kernel, row, "80") == [
        "lacks SHFL.BFLY", "has LDG.E.128", "has STL.64", "uses 8 bytes of local memory",
    ]  # fmt: skip


def test_occupancy() -> None:
    kernel = sass.Kernel("k", Counter(), registers=64)
    assert sass.occupancy(kernel, "90", 256) == 0.5
    assert sass.occupancy(kernel, "89", 256) == pytest.approx(1024 / 1536)
    assert sass.occupancy(kernel, "89", 1024, 99 * 1024) == pytest.approx(1024 / 1536)
    assert sass.occupancy(kernel, "89", 1024, 100 * 1024) == 0


def test_names() -> None:
    head = "_ZN6lowbit4cuda52_GLOBAL__N__1246c32a_19_stochastic_round_cu_ce3c69ca"
    assert sass.name_of(head + "6updateINS0_11LookupCoderEEEvNS1_9UpdateJobIT_EE") == "update<LookupCoder>"
    quantize = "_ZN6lowbit4cuda44_GLOBAL__N__79c86790_11_quantize_cu_db33fbd4"
    assert sass.name_of(quantize + "10by_threadsINS0_8IntCoderELb1EEEvNS1_5InputE") == "by_threads<IntCoder, true>"
    assert sass.name_of(quantize + "7extentsENS1_5InputENS0_9ExtentJobE") == "extents"
