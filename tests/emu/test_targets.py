"""The instructions that sm_80 lacks are refused where the module's `.target` has none, by the line: as ptxas does."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
from emu import emulator
from emu.instructions import kernel
from emu.instructions.memory import ACCESSES, ATOMICS
from emu.instructions.rows import ROWS
from emu.instructions.whole import CASES
from emu.toolchain import nvcc

TARGETS = ("80", "86", "89", "90", "90a", "100", "100f", "100a", "103a", "110f", "120", "120f", "120a", "121a")

# Statements that no row of the tables of instructions has. f32 %f, b32 %r, b16 %h, b64 %l, b128 %q, f64 %d, pred %p
MORE = """
redux.sync.min.f32 %f1, %f2, -1;
redux.sync.max.abs.NaN.f32 %f1, %f2, -1;
elect.sync %r1|%p1, -1;
griddepcontrol.wait;
griddepcontrol.launch_dependents;
red.global.add.v2.f32 [%l1], {%f1, %f2};
red.global.add.v4.f32 [%l1], {%f1, %f2, %f3, %f4};
red.global.add.noftz.v4.f16x2 [%l1], {%r1, %r2, %r3, %r4};
red.global.min.noftz.v2.bf16 [%l1], {%h1, %h2};
atom.global.add.v2.f32 {%f3, %f4}, [%l1], {%f1, %f2};
atom.global.exch.b128 %q1, [%l1], %q2;
atom.global.cas.b16 %h1, [%l1], %h2, %h3;
atom.relaxed.cluster.global.add.u32 %r1, [%l1], %r2;
ld.relaxed.cluster.global.u32 %r1, [%l1];
fence.acq_rel.cluster;
fence.acquire.gpu;
fence.proxy.async;
fence.proxy.alias;
ld.global.v8.b32 {%r1, %r2, %r3, %r4, %r5, %r6, %r7, %r8}, [%l1];
st.global.v4.b64 [%l1], {%l2, %l3, %l4, %l5};
ld.global.b128 %q1, [%l1];
ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {%r1, %r2}, [%r3];
ldmatrix.sync.aligned.m8n16.x1.shared.b8x16.b4x16_p64 {%r1}, [%r3];
stmatrix.sync.aligned.m16n8.x1.trans.shared.b8 [%r1], {%r2};
mov.u32 %r1, %cluster_ctaid.x;
mov.u32 %r1, %clusterid.y;
mov.u32 %r1, %aggr_smem_size;
mov.u32 %r1, %tid.x;
set.eq.bf16.bf16 %h1, %h2, %h3;
min.f32 %f1, %f2, %f3, %f4;
cvt.rn.satfinite.tf32.f32 %r1, %f1;
cvt.rna.satfinite.tf32.f32 %r1, %f1;
cvt.rs.f16x2.f32 %r1, %f1, %f2, %r2;
mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e5m2.f32 {%f1, %f2, %f3, %f4}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4};
mma.sync.aligned.m16n8k32.row.col.kind::f8f6f4.f32.e4m3.e4m3.f32 {%f1, %f2, %f3, %f4}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4};
mma.sync.aligned.m16n8k32.row.col.kind::f8f6f4.f32.e2m1.e4m3.f32 {%f1, %f2, %f3, %f4}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4};
mma.sync.aligned.kind::mxf4.block_scale.scale_vec::2X.m16n8k64.row.col.f32.e2m1.e2m1.f32.ue8m0 {%f1, %f2, %f3, %f4}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4}, %r1, {%h1, %h2}, %r2, {%h3, %h4};
mma.sync.aligned.m16n8k8.row.col.f64.f64.f64.f64 {%d1, %d2, %d3, %d4}, {%d5, %d6, %d7, %d8}, {%d9, %d10}, {%d1, %d2, %d3, %d4};
mma.sync.aligned.m16n8k64.row.col.s32.s4.s4.s32 {%r1, %r2, %r3, %r4}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%r1, %r2, %r3, %r4};
"""  # noqa: E501


@cache
def kernels() -> list[str]:
    """One .entry k<number> for each form, without the head of a module."""
    texts = [kernel.kernel(row) for rows in ROWS.values() for row in rows[:1]]
    texts += [each.ptx() for each in (*ACCESSES.values(), *ATOMICS.values())]
    texts += dict.fromkeys(case.ptx() for case in CASES.values())
    registers = "".join(
        f".reg .{t} %{n}<12>; "
        for n, t in zip("frhlqdp", ("f32", "b32", "b16", "b64", "b128", "f64", "pred"), strict=True)
    )
    texts += [
        f".visible .entry more(.param .u64 none)\n{{\n{registers}\n{s}\nret;\n}}" for s in MORE.strip().splitlines()
    ]
    found = []
    for number, text in enumerate(texts):
        body = re.sub(r"^\s*\.(version|target|address_size).*$", "", text, flags=re.M)
        outside, *entries = re.split(r"(?=^\.visible \.entry )", body, flags=re.M)
        for name in re.findall(r"^\.(?:global|const|shared|extern)[^;({]*?(\w+)(?:\[\d*\])?\s*[=;]", outside, re.M):
            outside, *entries = (re.sub(rf"\b{name}\b", f"{name}_{number}", each) for each in (outside, *entries))
        for entry in entries:
            found.append(outside + re.sub(r"\.entry \w+", f".entry k{len(found)}", entry, count=1))
            outside = ""
    return found


def module(target: str) -> tuple[str, dict[int, int]]:
    """The text of a module, and which kernel each of its lines is of."""
    lines = [".version 9.0", f".target sm_{target}", ".address_size 64"]
    of = {}
    for number, text in enumerate(kernels()):
        for line in text.splitlines():
            lines.append(line)
            of[len(lines)] = number
    return "\n".join(lines) + "\n", of


def refused_by_ptxas(target: str, text: str, folder: Path) -> set[int]:
    """Lines."""
    source = folder / "all.ptx"
    source.write_text(text)
    ptxas = Path(nvcc()).resolve().with_name("ptxas")
    command = [str(ptxas) if ptxas.exists() else "ptxas", f"-arch=sm_{target}", "-O0", str(source), "-o", "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return {int(line) for line in re.findall(r"line (\d+); error", done.stdout + done.stderr)}


def refused_by_the_emulator(text: str) -> dict[int, str]:
    """Line: sentence. A kernel that is not refused is not launched either, as its parameters are missing."""
    loaded = emulator.Module(text)
    found = {}
    for number in range(len(kernels())):
        with pytest.raises(emulator.EmulatorError) as refused:
            loaded.launch(f"k{number}", 1, 32)
        if at := re.search(r"line (\d+): ", str(refused.value)):
            found[int(at.group(1))] = str(refused.value)
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_target_lacks(target: str, tmp_path: Path) -> None:
    text, kernel_of = module(target)
    sentences = refused_by_the_emulator(text)
    lacking = refused_by_ptxas(target, text, tmp_path)
    assert lacking
    # the first line of each kernel, where the emulator stops
    want = {kernel_of[line]: line for line in sorted(lacking, reverse=True)}
    lines = text.splitlines()
    for line in set(sentences) ^ set(want.values()):
        pytest.fail(f"sm_{target}: only {'the emulator' if line in sentences else 'ptxas'} refuses {lines[line - 1]}")
    for sentence in sentences.values():
        assert "needs .target sm_" in sentence
        assert f"the module has sm_{target}" in sentence
