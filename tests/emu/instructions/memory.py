"""Loads, stores and atomics by form: the kernels differ in one statement only, so they are made from it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from emu.instructions import oracle

HEAD = """.version 9.0
.target sm_{arch}
.address_size 64
{outside}
.visible .entry test(.param .u64 in, .param .u64 out)
{{
  .reg .b32 %t, %i, %n;
  .reg .b64 %in, %out, %at;
  .reg .{register} %v<8>;
  mov.u32 %t, %tid.x;
  mov.u32 %i, %ctaid.x;
  mov.u32 %n, %ntid.x;
  mad.lo.u32 %i, %i, %n, %t;
  ld.param.u64 %in, [in];
  ld.param.u64 %out, [out];
  mad.wide.u32 %in, %i, {bytes}, %in;
  mad.wide.u32 %out, %i, {out_bytes}, %out;
"""


@dataclass(frozen=True)
class Access:
    """A load or store of `count` elements of `kind` in `space`. A load extends to the register, which is wider."""

    form: str
    arch: str = "80"

    @property
    def is_load(self) -> bool:
        return self.form.startswith(("ld.", "ldu."))

    @property
    def kind(self) -> str:
        return self.form.split(".")[-1]

    @property
    def bits(self) -> int:
        return int(self.kind[1:])

    @property
    def count(self) -> int:
        return next((int(m[1:]) for m in self.form.split(".") if m in ("v2", "v4", "v8")), 1)

    @property
    def space(self) -> str:
        return next((m for m in self.form.split(".") if m in ("global", "shared", "local", "const")), "generic")

    def ptx(self) -> str:
        width = max(self.bits, 32)
        registers = ", ".join(f"%v{k}" for k in range(self.count))
        operand = f"{{{registers}}}" if self.count > 1 else registers
        size = self.bits // 8 * self.count
        whole = width // 8 * self.count
        outside = f".const .align 16 .b8 table[{128 * size}];\n" if self.space == "const" else ""
        text = [HEAD.format(arch=self.arch, outside=outside, register=f"b{width}", bytes=size, out_bytes=whole)]
        if self.space in ("shared", "local"):
            slots = 128 * size if self.space == "shared" else size
            text.append(f"  .{self.space} .align 16 .b8 slots[{slots}];\n  mov.u64 %at, slots;\n")
            if self.space == "shared":
                text.append(f"  mad.wide.u32 %at, %t, {size}, %at;\n")
        plain = f"{'.v' + str(self.count) if self.count > 1 else ''}.b{self.bits}"
        if self.is_load:
            source = "%in" if self.space in ("global", "generic") else "%at"
            if source == "%at" and self.space != "const":
                text.append(f"  ld.global{plain} {operand}, [%in];\n  st.{self.space}{plain} [%at], {operand};\n")
            if self.space == "const":
                text.append(f"  mov.u64 %at, table;\n  mad.wide.u32 %at, %t, {size}, %at;\n")
            text.append(f"  {self.form} {operand}, [{source}];\n")
        else:
            text.append(f"  ld.global{plain} {operand}, [%in];\n")
            target = "%out" if self.space in ("global", "generic") else "%at"
            text.append(f"  {self.form} [{target}], {operand};\n")
            if target == "%at":
                text.append(f"  ld.{self.space}{plain} {operand}, [%at];\n")
        if self.is_load or self.space in ("shared", "local"):
            for k in range(self.count):
                text.append(f"  st.global.b{width} [%out + {k * width // 8}], %v{k};\n")
        return "".join(text) + "  ret;\n}\n"

    def given(self) -> np.ndarray:
        n = 128 * self.count
        if self.space == "const":
            return np.zeros(n, dtype=f"u{self.bits // 8}")
        return np.random.default_rng(self.bits).integers(0, 1 << self.bits, n, dtype=f"u{self.bits // 8}")

    def expected(self, given: np.ndarray) -> np.ndarray:
        """The elements as the register held them: extended as the type says. Plain stores do not extend."""
        width = max(self.bits, 32)
        if not self.is_load and self.space in ("global", "generic"):
            out = np.zeros(128 * self.count * width // self.bits, dtype=given.dtype)
            threads = out.reshape(128, -1)
            threads[:, : self.count] = given.reshape(128, self.count)
            return out
        signed = self.is_load and self.kind[0] == "s"
        values = given.view(f"i{self.bits // 8}") if signed else given
        return values.astype(f"i{width // 8}" if signed else f"u{width // 8}").view(f"u{width // 8}")


KINDS = ("b8", "u8", "s8", "b16", "u16", "s16", "b32", "u32", "s32", "f32", "b64", "u64", "s64", "f64")


def vector_forms(prefix: str, kinds: tuple[str, ...] = KINDS) -> Iterator[str]:
    for kind in kinds:
        yield f"{prefix}.{kind}"
        for count in (2, 4):
            if int(kind[1:]) * count <= 128:
                yield f"{prefix}.v{count}.{kind}"


def access_forms() -> Iterator[Access]:
    for form in vector_forms("ld.global"):
        yield Access(form)
    for form in vector_forms("st.global"):
        yield Access(form)
    for operation in ("ld", "st"):
        for space in ("shared", "local"):
            for form in vector_forms(f"{operation}.{space}"):
                yield Access(form)
        for form in vector_forms(operation):
            yield Access(form)
    for form in vector_forms("ld.global.nc"):
        yield Access(form)
    for form in vector_forms("ld.const", ("b8", "u8", "s8", "u16", "u32", "b32", "f32", "u64", "b64", "f64")):
        yield Access(form)
    some = ("u8", "u16", "b16", "u32", "b32", "f32", "u64", "b64")
    for cache in ("ca", "cg", "cs", "lu", "cv"):
        for form in vector_forms(f"ld.global.{cache}", some):
            yield Access(form)
    for cache in ("wb", "cg", "cs", "wt"):
        for form in vector_forms(f"st.global.{cache}", some):
            yield Access(form)
    hints = (
        "L1::evict_normal",
        "L1::evict_first",
        "L1::evict_last",
        "L1::no_allocate",
        "L2::64B",
        "L2::128B",
        "L2::256B",
    )
    for hint in (*hints, "L1::no_allocate.L2::128B", "L1::no_allocate.L2::256B"):
        for nc in ("", ".nc"):
            for form in vector_forms(f"ld.global{nc}.{hint}", ("u16", "b16", "u32", "b32", "f32", "u64", "b64")):
                yield Access(form)
    for hint in ("L1::evict_normal", "L1::evict_first", "L1::evict_last", "L1::no_allocate"):
        for form in vector_forms(f"st.global.{hint}", ("u16", "b16", "u32", "b32", "f32", "u64", "b64")):
            yield Access(form)
    for kind in ("u8", "u16", "u32", "s32", "b32", "f32", "u64", "s64", "b64", "f64"):
        for where in (".global", ".shared", ""):
            for count in ("", ".v2", ".v4") if kind in ("u32", "b32", "f32") else ("",):
                yield Access(f"ld.volatile{where}{count}.{kind}")
                yield Access(f"st.volatile{where}{count}.{kind}")
        for scope in ("cta", "gpu", "sys"):
            for where in (".global", ".shared", ""):
                for count in ("", ".v2", ".v4") if kind in ("u32", "b32", "f32") else ("",):
                    yield Access(f"ld.relaxed.{scope}{where}{count}.{kind}")
                    yield Access(f"ld.acquire.{scope}{where}{count}.{kind}")
                    yield Access(f"st.relaxed.{scope}{where}{count}.{kind}")
                    yield Access(f"st.release.{scope}{where}{count}.{kind}")
    for kind in ("u32", "b32", "f32", "u64"):
        yield Access(f"ldu.global.{kind}")


# ---- atomics: four threads for each address; what is left there is what any order gives


@dataclass(frozen=True)
class Atomic:
    form: str
    name: str
    kind: str
    arch: str = "80"

    @property
    def element(self) -> str:
        return self.kind.removesuffix("x2")

    @property
    def elements(self) -> int:
        return 2 if self.kind.endswith("x2") else 1

    @property
    def bits(self) -> int:
        return int(self.element.lstrip("bfsu")) * self.elements

    def step(self, old: int, value: int) -> int:
        """One update of the word of an address."""
        width = self.bits // self.elements
        mask = (1 << width) - 1
        out = 0
        for k in range(self.elements):
            a, b = old >> (k * width) & mask, value >> (k * width) & mask
            if self.element in oracle.FORMATS:
                result = oracle.encode(
                    self.element, oracle.add(oracle.decode(self.element, a), oracle.decode(self.element, b))
                )
            else:
                if self.kind[0] == "s":
                    a, b = (v - (1 << width) if v >> (width - 1) else v for v in (a, b))
                result = a + b if self.name == "add" else INTEGER_STEPS[self.name](a, b)
            out |= (result & mask) << (k * width)
        return out

    def possible(self, held: int, values: list[int]) -> set[tuple[tuple[int, ...], int]]:
        """(what each thread gets, what is left) for every order of the threads."""
        outcomes = set()
        for order in itertools.permutations(range(len(values))):
            got, word = [0] * len(values), held
            for k in order:
                got[k], word = word, self.step(word, values[k])
            outcomes.add((tuple(got) if self.form.startswith("atom") else (0,) * len(values), word))
        return outcomes

    def words(self, count: int, seed: int) -> list[int]:
        dice = random.Random(f"{self.form} {seed}")
        if self.name in ("inc", "dec", "cas"):
            return [dice.randrange(5) for _ in range(count)]
        if self.element not in oracle.FORMATS:
            return [dice.getrandbits(self.bits) for _ in range(count)]
        width = self.bits // self.elements
        codes = ((oracle.encode(self.element, dice.gauss(0, 4)) for _ in range(self.elements)) for _ in range(count))
        return [sum(code << (k * width) for k, code in enumerate(c)) for c in codes]

    def ptx(self) -> str:
        b, size = self.bits, self.bits // 8
        shared = ".shared" in self.form
        text = [HEAD.format(arch=self.arch, outside="", register=f"b{b}", bytes=size, out_bytes=size)]
        text.append("  .reg .pred %p;\n  .reg .b32 %k;\n")
        # thread t adds to address t / 4; the third array is the addresses' own: in is [values, held]
        text.append(f"  ld.global.b{b} %v0, [%in];\n  shr.u32 %k, %t, 2;\n")
        if shared:
            text.append(f"  .shared .align 8 .b8 slots[{32 * size}];\n  mov.u64 %at, slots;\n")
        else:
            text.append(f"  ld.param.u64 %at, [out];\n  add.u64 %at, %at, {128 * size};\n")
        text.append(f"  mad.wide.u32 %at, %k, {size}, %at;\n")
        if shared:
            text.append("  and.b32 %k, %t, 3;\n  setp.eq.u32 %p, %k, 0;\n  shr.u32 %k, %t, 2;\n")
            text.append(f"  ld.param.u64 %in, [out];\n  add.u64 %in, %in, {128 * size};\n")
            text.append(f"  mad.wide.u32 %in, %k, {size}, %in;\n  ld.global.b{b} %v1, [%in];\n")
            text.append(f"  @%p st.shared.b{b} [%at], %v1;\n  bar.sync 0;\n")
        if ".cas." in self.form:
            text.append(f"  mov.b{b} %v2, 0;\n  {self.form} %v3, [%at], %v2, %v0;\n")
        elif self.form.startswith("red"):
            text.append(f"  {self.form} [%at], %v0;\n  mov.b{b} %v3, 0;\n")
        else:
            text.append(f"  {self.form} %v3, [%at], %v0;\n")
        text.append(f"  st.global.b{b} [%out], %v3;\n")
        if shared:
            text.append(f"  bar.sync 0;\n  ld.shared.b{b} %v1, [%at];\n  @%p st.global.b{b} [%in], %v1;\n")
        return "".join(text) + "  ret;\n}\n"


INTEGER_STEPS: dict[str, Callable[[int, int], int]] = {
    "min": min,
    "max": max,
    "and": lambda old, v: old & v,
    "or": lambda old, v: old | v,
    "xor": lambda old, v: old ^ v,
    "inc": lambda old, v: 0 if old >= v else old + 1,
    "dec": lambda old, v: v if old == 0 or old > v else old - 1,
    "exch": lambda old, v: v,
    "cas": lambda old, v: v if old == 0 else old,  # the kernel compares with 0
}
OPERATIONS: dict[str, tuple[str, ...]] = {
    "add": ("u32", "s32", "u64", "f32", "f64"),
    "min": ("u32", "s32", "u64", "s64"),
    "max": ("u32", "s32", "u64", "s64"),
    "and": ("b32", "b64"),
    "or": ("b32", "b64"),
    "xor": ("b32", "b64"),
    "inc": ("u32",),
    "dec": ("u32",),
    "exch": ("b32", "b64"),
    "cas": ("b32", "b64"),
}
ORDERS = ("", ".relaxed.gpu", ".relaxed.cta", ".acq_rel.gpu", ".acquire.gpu", ".release.gpu")


def atomic_forms() -> Iterator[Atomic]:
    for name, kinds in OPERATIONS.items():
        for kind in kinds:
            for order in ORDERS:
                for space in (".global", ".shared", ""):
                    yield Atomic(f"atom{order}{space}.{name}.{kind}", name, kind)
                    if "acq" not in order and name not in ("exch", "cas"):
                        yield Atomic(f"red{order}{space}.{name}.{kind}", name, kind)
    for kind in ("f16", "f16x2", "bf16", "bf16x2"):
        arch = "90" if kind.startswith("bf") else "80"
        for form in ("atom.global", "atom", "red.global", "red"):
            yield Atomic(f"{form}.add.noftz.{kind}", "add", kind, arch=arch)


ACCESSES = {a.form: a for a in access_forms()}
ATOMICS = {a.form: a for a in atomic_forms()}
