"""Writes the kernels of this folder: one file a shape and family of types, one entry for each mma.sync of it.

Every entry runs one mma a block on fragments that lie in memory as the registers do: [block][register][lane].
"""

import itertools
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
F8F6F4 = ("e4m3", "e5m2", "e3m2", "e2m3", "e2m1")


def variants():
    """(file, entry, target, text of the mma without operands, registers of a b c, registers of c are 64-bit, scaled)"""
    rows = []

    def add(file, entry, target, text, a, b, c, wide=False, scaled=False):
        rows.append((file, entry, target, text, a, b, c, wide, scaled))

    for shape, a, b, c in (("m8n8k128", 1, 1, 2), ("m16n8k128", 2, 1, 4), ("m16n8k256", 4, 2, 4)):
        for op in ("and", "xor"):
            add(f"{shape}_b1", op, "sm_80", f"{shape}.row.col.s32.b1.b1.s32.{op}.popc", a, b, c)
    for width, shapes in (
        (4, (("m8n8k32", 1, 1, 2), ("m16n8k32", 2, 1, 4), ("m16n8k64", 4, 2, 4))),
        (8, (("m8n8k16", 1, 1, 2), ("m16n8k16", 2, 1, 4), ("m16n8k32", 4, 2, 4))),
    ):
        for shape, a, b, c in shapes:
            for left, right, sat in itertools.product("su", "su", ("", ".satfinite")):
                types = f"s32.{left}{width}.{right}{width}.s32"
                entry = f"{left}{width}_{right}{width}" + sat.replace(".", "_")
                add(f"{shape}_s{width}", entry, "sm_80", f"{shape}.row.col{sat}.{types}", a, b, c)
    for shape, a, b in (("m16n8k8", 2, 1), ("m16n8k16", 4, 2)):
        add(f"{shape}_f16", "f32", "sm_80", f"{shape}.row.col.f32.f16.f16.f32", a, b, 4)
        add(f"{shape}_f16", "f16", "sm_80", f"{shape}.row.col.f16.f16.f16.f16", a, b, 2)
        add(f"{shape}_bf16", "f32", "sm_80", f"{shape}.row.col.f32.bf16.bf16.f32", a, b, 4)
    for shape, a, b in (("m16n8k4", 2, 1), ("m16n8k8", 4, 2)):
        add(f"{shape}_tf32", "f32", "sm_80", f"{shape}.row.col.f32.tf32.tf32.f32", a, b, 4)
    for shape, target, a, b, c in (
        ("m8n8k4", "sm_80", 1, 1, 2),
        ("m16n8k4", "sm_90", 2, 1, 4),
        ("m16n8k8", "sm_90", 4, 2, 4),
        ("m16n8k16", "sm_90", 8, 4, 4),
    ):
        for rnd in ("", ".rn", ".rz", ".rm", ".rp"):
            entry = "f64" + rnd.replace(".", "_")
            add(f"{shape}_f64", entry, target, f"{shape}.row.col{rnd}.f64.f64.f64.f64", a, b, c, wide=True)
    for shape, a, b in (("m16n8k16", 2, 1), ("m16n8k32", 4, 2)):
        for left, right, acc in itertools.product(("e4m3", "e5m2"), ("e4m3", "e5m2"), ("f32", "f16")):
            types = f"{acc}.{left}.{right}.{acc}"
            add(
                f"{shape}_f8",
                f"{left}_{right}_{acc}",
                "sm_89",
                f"{shape}.row.col.{types}",
                a,
                b,
                4 if acc == "f32" else 2,
            )
    for left, right, acc in itertools.product(F8F6F4, F8F6F4, ("f32", "f16")):
        text = f"m16n8k32.row.col.kind::f8f6f4.{acc}.{left}.{right}.{acc}"
        add("m16n8k32_f8f6f4", f"{left}_{right}_{acc}", "sm_120f", text, 4, 2, 4 if acc == "f32" else 2)
    for left, right in itertools.product(F8F6F4, F8F6F4):
        text = f"m16n8k32.row.col.kind::mxf8f6f4.block_scale.scale_vec::1X.f32.{left}.{right}.f32.ue8m0"
        add("m16n8k32_mxf8f6f4", f"{left}_{right}", "sm_120f", text, 4, 2, 4, scaled=True)
    text = "m16n8k64.row.col.kind::{}.block_scale.scale_vec::{}.f32.e2m1.e2m1.f32.{}"
    add("m16n8k64_mxf4", "mxf4_ue8m0", "sm_120f", text.format("mxf4", "2X", "ue8m0"), 4, 2, 4, scaled=True)
    add("m16n8k64_mxf4", "mxf4nvf4_ue8m0", "sm_120f", text.format("mxf4nvf4", "2X", "ue8m0"), 4, 2, 4, scaled=True)
    add("m16n8k64_mxf4", "mxf4nvf4_ue4m3", "sm_120f", text.format("mxf4nvf4", "4X", "ue4m3"), 4, 2, 4, scaled=True)
    return rows


def entry_text(entry, text, a, b, c, wide, scaled):
    size, kind, suffix = (8, "f64", "d") if wide else (4, "b32", "r")
    lines = [
        f".visible .entry {entry}(.param .u64 d, .param .u64 a, .param .u64 b, .param .u64 c"
        + (
            ", .param .u64 sa, .param .u64 sb, .param .u32 byte_a, .param .u32 thread_a, .param .u32 byte_b, "
            ".param .u32 thread_b)"
            if scaled
            else ")"
        ),
        "{",
        "\t.reg .b64 %p<8>;",
        "\t.reg .b32 %x<8>;",
    ]
    registers = {}
    for name, count in (("a", a), ("b", b), ("c", c), ("d", c)):
        lines.append(f"\t.reg .{kind} %{name}{suffix}<{count}>;")
        registers[name] = [f"%{name}{suffix}{i}" for i in range(count)]
    if scaled:
        lines.append("\t.reg .b32 %sa<1>;\n\t.reg .b32 %sb<1>;\n\t.reg .b16 %h<4>;")
        registers["sa"], registers["sb"] = ["%sa0"], ["%sb0"]
    lines += ["\tmov.u32 %x0, %tid.x;", "\tmov.u32 %x1, %ctaid.x;"]

    def address(name):
        count = len(registers[name])
        width = 4 if name in ("sa", "sb") else size
        return [
            f"\tld.param.u64 %p0, [{name}];",
            f"\tmul.lo.u32 %x2, %x1, {32 * count};",
            "\tadd.u32 %x2, %x2, %x0;",
            f"\tmul.wide.u32 %p1, %x2, {width};",
            "\tadd.s64 %p2, %p0, %p1;",
        ], 32 * width

    for name in registers:
        if name == "d":
            continue
        more, pitch = address(name)
        lines += more
        suffix_type = "b32" if name in ("sa", "sb") else kind
        lines += [f"\tld.global.{suffix_type} {r}, [%p2+{i * pitch}];" for i, r in enumerate(registers[name])]
    vectors = {n: "{" + ", ".join(r) + "}" for n, r in registers.items()}
    operands = [vectors[n] for n in "dabc"]
    if scaled:
        for i, name in enumerate(("byte_a", "thread_a", "byte_b", "thread_b")):
            lines += [f"\tld.param.u32 %x3, [{name}];", f"\tcvt.u16.u32 %h{i}, %x3;"]
        operands += ["%sa0", "{%h0, %h1}", "%sb0", "{%h2, %h3}"]
    lines.append(f"\tmma.sync.aligned.{text} " + ", ".join(operands) + ";")
    more, pitch = address("d")
    lines += more
    lines += [f"\tst.global.{kind} [%p2+{i * pitch}], {r};" for i, r in enumerate(registers["d"])]
    return "\n".join([*lines, "\tret;", "}", ""])


def files():
    out = {}
    for file, entry, target, text, a, b, c, wide, scaled in variants():
        if file not in out:
            out[file] = f".version 9.0\n.target {target}\n.address_size 64\n"
        out[file] += "\n" + entry_text(entry, text, a, b, c, wide, scaled)
    return out


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / f"{name}.ptx").write_text(text)
    sys.stdout.write(f"{len(files())} files\n")
