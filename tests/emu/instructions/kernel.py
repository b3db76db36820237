"""The kernel of a row: each thread loads its operands, runs the one instruction under a guard, stores the results. A
thread whose guard is off stores what the destinations held before, all ones."""

from __future__ import annotations

from emu.instructions.row import BITS, Row

THREADS = 128
# Statements whose operands do not simply follow each other; {d0}, {s0} are results and sources. Where there are
# several, all stand under the guard.
STATEMENTS: dict[str, str] = {
    "lop3.or.b32": "lop3.or.b32 {d0}|{d1}, {s0}, {s1}, {s2}, 0x80, {s3};",
    "lop3.and.b32": "lop3.and.b32 {d0}|{d1}, {s0}, {s1}, {s2}, 0x80, {s3};",
    "lop3.b32": "\n".join(
        f"lop3.b32 {{d{i}}}, {{s0}}, {{s1}}, {{s2}}, {table:#x};"
        for i, table in enumerate((0x80, 0xFE, 0x96, 0xE8, 0xCA, 0x1A, 0x3F, 0x01))
    ),
}
for _type in ("u32", "s32", "u64", "s64"):
    _unsigned = f"u{_type[1:]}"
    # the carry is set by the first statement, read and set again by the second, read by the third
    for _name in ("add", "sub"):
        STATEMENTS[f"{_name}c.cc.{_type}"] = (
            f"{_name}.cc.{_type} {{d0}}, {{s0}}, {{s1}};\n{_name}c.cc.{_type} {{d0}}, {{s0}}, {{s1}};\n"
            + ("addc.u32 {d1}, 0, 0;" if _name == "add" else "subc.u32 {d1}, 0, 0;\nneg.s32 {d1}, {d1};")
        )
    for _part in ("lo", "hi"):
        STATEMENTS[f"madc.{_part}.cc.{_type}"] = (
            f"mad.{_part}.cc.{_type} {{d0}}, {{s0}}, {{s1}}, {{s2}};\n"
            f"madc.{_part}.cc.{_type} {{d0}}, {{s0}}, {{s1}}, {{s2}};\naddc.u32 {{d1}}, 0, 0;"
        )
# What the statements above run beside the form they are listed under.
ALSO_TESTED = ("add.cc", "sub.cc", "addc", "subc", "mad.lo.cc", "mad.hi.cc")


def register_bits(kind: str) -> int:
    return max(BITS[kind], 16) if kind != "pred" else 1


def declaration(name: str, kind: str, narrow: bool) -> str:
    if kind == "pred":
        return f".reg .pred {name};"
    return f".reg .b{8 if narrow and BITS[kind] == 8 else register_bits(kind)} {name};"


def statement(row: Row) -> str:
    d = [f"{{d{i}}}" for i in range(len(row.result_kinds))]
    s = [f"{{s{i}}}" for i in range(len(row.source_kinds))]
    if row.form.startswith("cvt.rs") and len(s) == 5:
        s = ["{" + "{" + ", ".join(s[:4]) + "}" + "}", s[4]]
    return f"{row.form} {'|'.join(d)}, {', '.join(s)};"


def kernel(row: Row) -> str:
    sources, results = row.source_kinds, row.result_kinds
    names = {f"s{i}": f"%s{i}" for i in range(len(sources))} | {f"d{i}": f"%d{i}" for i in range(len(results))}
    # cvt has registers of 8 bits for pairs of 4-bit values, and beside bf16
    narrow = "e2m1x2" in row.form or row.form.endswith(("8.bf16", "bf16.u8", "bf16.s8"))
    parameters = ["on", *(f"s{i}" for i in range(len(sources))), *(f"d{i}" for i in range(len(results)))]
    head = [
        ".version 9.0", f".target sm_{row.arch}", ".address_size 64",
        f".visible .entry test({', '.join(f'.param .u64 {p}' for p in parameters)})", "{",
        ".reg .b32 %index, %block, %size, %word;", ".reg .b64 %at;", ".reg .pred %on;",
        *(declaration(f"%s{i}", k, narrow) for i, k in enumerate(sources)),
        *(declaration(f"%d{i}", k, narrow) for i, k in enumerate(results)),
        "mov.u32 %index, %tid.x;", "mov.u32 %block, %ctaid.x;", "mov.u32 %size, %ntid.x;",
        "mad.lo.u32 %index, %block, %size, %index;",
    ]  # fmt: skip
    body: list[str] = []

    def address(parameter: str, size: int) -> None:
        body.extend([f"ld.param.u64 %at, [{parameter}];", f"mad.wide.u32 %at, %index, {size}, %at;"])

    def load(parameter: str, register: str, kind: str) -> None:
        size = max(BITS[kind] // 8, 1)
        address(parameter, size)
        if kind == "pred":
            body.extend(["ld.global.u8 %word, [%at];", f"setp.ne.u32 {register}, %word, 0;"])
        else:
            body.append(f"ld.global.{kind if kind[0] in 'us' else f'b{BITS[kind]}'} {register}, [%at];")

    load("on", "%on", "pred")
    for i, kind in enumerate(sources):
        load(f"s{i}", f"%s{i}", kind)
    for i, kind in enumerate(results):
        if kind == "pred":
            body.append(f"setp.eq.u32 %d{i}, %index, %index;")
        elif narrow and BITS[kind] == 8:
            body.append(f"cvt.u8.u32 %d{i}, 255;")
        else:
            body.append(f"mov.b{register_bits(kind)} %d{i}, -1;")
    text = STATEMENTS.get(row.form, statement(row)).format(**names)
    body.extend(f"@%on {line}" for line in text.splitlines())
    for i, kind in enumerate(results):
        address(f"d{i}", max(BITS[kind] // 8, 1))
        if kind == "pred":
            body.extend([f"selp.u32 %word, 1, 0, %d{i};", "st.global.u8 [%at], %word;"])
        else:
            body.append(f"st.global.b{BITS[kind]} [%at], %d{i};")
    return "\n".join([*head, *body, "ret;", "}"]) + "\n"
