"""Which instruction forms have a test, and which of a list of forms have none."""

from __future__ import annotations

import re
from collections.abc import Iterable

from emu.instructions.kernel import statement
from emu.instructions.memory import ACCESSES, ATOMICS
from emu.instructions.rows import ROWS
from emu.instructions.whole import CASES, FOLDER

# Forms that the kernels of other rows hold beside the one they are named for, in a way that shows a wrong result.
BESIDE = {"ld.param.u64", "ret", "trap"}
BESIDE |= {f"{name}.cc.{kind}" for name in ("add", "sub", "mad.lo", "mad.hi") for kind in ("u32", "s32", "u64", "s64")}
BESIDE |= {f"{name}.{kind}" for name in ("addc", "subc") for kind in ("u32", "s32", "u64", "s64")}
BESIDE |= {f"madc.{part}.{kind}" for part in ("lo", "hi") for kind in ("u32", "s32", "u64", "s64")}
# A kernel's parameters: their loads differ in width alone, which ld.global and ld.const of the same width cover.
PARAMETER = re.compile(r"(ld|st)\.param(\.v[24])?\.[bufs](8|16|32|64)$")
# mma.sync: every entry of these files is one form, which test_mma.py and its neighbours run on matrices.
MMA_FOLDER = FOLDER.parent / "mma"

# Of these the modifiers are taken in any order.
UNORDERED = ("ldmatrix", "stmatrix", "vote", "match", "bar", "barrier")


def canonical(form: str) -> str:
    opcode, *modifiers = form.split(".")
    return ".".join([opcode, *(sorted(modifiers) if opcode in UNORDERED else modifiers)])


def mma_forms() -> set[str]:
    texts = (path.read_text() for path in MMA_FOLDER.glob("*.ptx"))
    return {form for text in texts for form in re.findall(r"^\s*(mma\.\S+)", text, re.MULTILINE)}


def covered_forms() -> set[str]:
    forms = set(ROWS) | set(ACCESSES) | set(ATOMICS) | BESIDE | mma_forms()
    for case in CASES.values():
        forms.update(case.forms)
    return forms


def untested(forms: Iterable[str]) -> list[str]:
    """Those of `forms` (opcodes with their modifiers, as emu_opcodes() lists them) that no test runs."""
    tested = {canonical(f) for f in covered_forms()}
    return sorted({f for f in forms if canonical(f) not in tested and not PARAMETER.match(f)})


def statements_without_a_form() -> list[str]:
    """Cases whose kernel does not hold the form that they claim to test."""
    out = []
    for case in CASES.values():
        text = re.sub(r"\s+", " ", (FOLDER / f"{case.file}.ptx").read_text())
        out += [f"{case.name}: {form}" for form in case.forms if f" {form} " not in text and f" {form};" not in text]
    out += [form for form, rows in ROWS.items() for row in rows if not statement(row).startswith(form)]
    return out
