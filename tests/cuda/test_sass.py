"""The machine code of every kernel: the instructions that are meant for the architecture, no local memory."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from cuda import cubins, sass
from cuda.kernels import ARCHS, library
from cuda.sample_launches import sample


@pytest.fixture(scope="module")
def built() -> Path:
    return Path(library()._name)


def rows_of(name: str) -> list[sass.Row]:
    return [row for row in sass.ROWS if re.fullmatch(row.kernel, name)]


@pytest.mark.parametrize("arch", ARCHS)
def test_kernels_are_made_of_what_they_should(built: Path, arch: str) -> None:
    kernels = sass.kernels(built, arch)
    bad = []
    for name, kernel in sorted(kernels.items()):
        rows = rows_of(name)
        if len(rows) != 1:
            bad.append(f"{name}: has {len(rows)} rows in tests/cuda/sass.py")
            continue
        bad += [f"{name}: {fault}" for fault in sass.faults(kernel, rows[0], arch)]
    absent = [r.kernel for r in sass.ROWS if arch in r.archs and not any(re.fullmatch(r.kernel, n) for n in kernels)]
    bad += [f"{name}: is not there" for name in absent]
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("arch", ARCHS)
def test_kernels_fit_as_they_are_launched(built: Path, arch: str) -> None:
    """Registers of the machine code, threads and shared memory of the launchers. Of every row of the GEMM's engines
    that the architecture has, one kernel is launched; those of other engines are not there."""
    kernels, launched = sass.kernels(built, arch), sample(arch)
    print(f"\nsm_{arch}: kernel, registers, shared bytes static and dynamic, occupancy")
    for name, (threads, dynamic) in sorted(launched.items()):
        assert name in kernels, f"{name}: is launched and is not there"
        kernel = kernels[name]
        share = sass.occupancy(kernel, arch, threads, dynamic)
        print(f"  {name:50} {kernel.registers:4} {kernel.shared:6} {dynamic:6} {100 * share:4.0f} %")
        assert share > 0, f"{name}: no block of {threads} threads and {dynamic} bytes fits"
    for row in sass.GEMM:
        seen = [name for name in launched if re.fullmatch(row.kernel, name)]
        assert bool(seen) == (arch in row.archs), f"{row.kernel}: launched {seen}"


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
    assert sass.faults(kernel, row, "80") == [
        "lacks SHFL.BFLY", "has LDG.E.128", "has STL.64", "uses 8 bytes of local memory",
    ]  # fmt: skip


@pytest.mark.parametrize("arch", ARCHS)
def test_distinct_instructions_stand_for_all(built: Path, tmp_path: Path, arch: str) -> None:
    """Of a cubin of middling size, every instruction disassembled."""
    sass.extract(built, arch, tmp_path)
    some = max((p for p in tmp_path.iterdir() if p.stat().st_size < 2**19), key=lambda p: p.stat().st_size)
    kernels, nvdisasm = list(cubins.sections(some.read_bytes())), sass.program("nvdisasm")
    names = iter(cubins.disassemble(nvdisasm, arch, np.concatenate([code for _, code in kernels])))
    want = {kernel: Counter(islice(names, len(code))) for kernel, code in kernels}
    assert sum(sum(counts.values()) for counts in want.values()) > 10000
    assert cubins.opcodes(nvdisasm, arch, [some]) == want


def test_an_emulated_engine_is_seen() -> None:
    """s4 on sm_90 would be a chain of s8: neither the kernel nor a multiply that its row does not name may be there."""
    row = sass.gemm("Int4Engine", "4", "IMMA.16864.S4.S4", archs=("80", "89"))
    copies = Counter({"LDGSTS.E.BYPASS.128": 1, "LDGDEPBAR": 1})
    chain = sass.Kernel("k", copies + Counter({"IMMA.16832.S8.S8": 8}))
    assert sass.faults(chain, row, "90") == ["is there for sm_90", "lacks IMMA.16864.S4.S4"]
    row = sass.gemm("Float8Engine", "8", "QMMA.16832.F32.E4M3.E4M3", archs=("89", "120f"))
    native = copies + Counter({"QMMA.16832.F32.E4M3.E4M3": 8})
    assert sass.faults(sass.Kernel("k", native), row, "89") == []
    assert sass.faults(sass.Kernel("k", native + Counter({"HMMA.16816.F32": 2})), row, "89") == ["has HMMA.16816.F32"]


def test_occupancy() -> None:
    kernel = sass.Kernel("k", Counter(), registers=64)
    assert sass.occupancy(kernel, "90", 256) == 0.5
    assert sass.occupancy(kernel, "89", 256) == pytest.approx(1024 / 1536)
    assert sass.occupancy(kernel, "89", 1024, 99 * 1024) == pytest.approx(1024 / 1536)
    assert sass.occupancy(kernel, "89", 1024, 100 * 1024) == 0
    assert [sass.static_shared(arch, 3076) for arch in ("80", "89", "90", "120f")] == [3076, 3076, 2052, 2052]
    assert sass.static_shared("90", 0) == 0


def test_names() -> None:
    head = "_ZN6lowbit4cuda52_GLOBAL__N__1246c32a_19_stochastic_round_cu_ce3c69ca"
    assert sass.name_of(head + "6updateINS0_11LookupCoderEEEvNS1_9UpdateJobIT_EE") == "update<LookupCoder>"
    quantize = "_ZN6lowbit4cuda44_GLOBAL__N__79c86790_11_quantize_cu_db33fbd4"
    assert sass.name_of(quantize + "10by_threadsINS0_8IntCoderELb1EEEvNS1_5InputE") == "by_threads<IntCoder, true>"
    assert sass.name_of(quantize + "7extentsENS1_5InputENS0_9ExtentJobE") == "extents"
