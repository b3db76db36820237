"""mma.sync of every shape and type against Python integers, under both models of float sums."""

from fractions import Fraction

import numpy as np
import pytest
from emu import emulator
from emu.mma_reference import F16, F32, FORMATS, MODELS, exact, floor_log2, fractions, hardware
from emu.mma_run import (
    BITS,
    CASES,
    HERE,
    KINDS,
    VARIANTS,
    Run,
    element_formats,
    family,
    float_operands,
    k_of,
    positions,
    rows_of,
)  # fmt: skip

# ---- integers


def integers(file):
    return [entry for f, entry in VARIANTS if f == file]


def integer_operands(rng, is_signed, bits, shape):
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if is_signed else (0, (1 << bits) - 1)
    out = rng.integers(low, high + 1, shape)
    out[1], out[2] = low, high  # the largest sums of every sign combination
    out[3] = np.where(rng.random(shape[1:]) < 0.5, low, high)
    return out


@pytest.mark.parametrize("file", sorted({f for f, _ in VARIANTS if family(f) in ("s4", "s8")}))
def test_integers(file):
    rng = np.random.default_rng(1)
    bits, m, k = BITS[family(file)], rows_of(file), k_of(file)
    entries = integers(file)
    assert len(entries) == 8
    saturated = 0
    for entry in entries:
        a = integer_operands(rng, entry[0] == "s", bits, (CASES, m, k))
        b = integer_operands(rng, entry.split("_")[1][0] == "s", bits, (CASES, 8, k))
        b[1], b[2] = b[2].copy(), b[1].copy()  # the opposite extremes
        c = rng.integers(-(2**31), 2**31, (CASES, m, 8))
        c[3:] = np.where(rng.random((3, m, 8)) < 0.5, -(2**31), 2**31 - 1)
        expected = c + np.einsum("cmk,cnk->cmn", a, b)
        if "satfinite" in entry:
            clipped = np.clip(expected, -(2**31), 2**31 - 1)
            saturated += (clipped != expected).sum()
            expected = clipped
        mask = (1 << bits) - 1
        got = Run(file, entry)(a & mask, b & mask, c & 0xFFFFFFFF)
        np.testing.assert_array_equal(got, (expected & 0xFFFFFFFF).astype(np.uint64), err_msg=entry)
    assert saturated > 100


@pytest.mark.parametrize("op", ["and", "xor"])
@pytest.mark.parametrize("file", ["m8n8k128_b1", "m16n8k128_b1", "m16n8k256_b1"])
def test_bits(file, op):
    rng = np.random.default_rng(2)
    m, k = rows_of(file), k_of(file)
    a, b = rng.integers(0, 2, (CASES, m, k)), rng.integers(0, 2, (CASES, 8, k))
    a[1], b[1] = 1, 1
    a[2], b[2] = 1, 0
    c = rng.integers(-(2**31), 2**31, (CASES, m, 8))
    c[1] = 2**31 - 1  # wraps
    pairs = a[:, :, None, :] & b[:, None] if op == "and" else a[:, :, None, :] ^ b[:, None]
    got = Run(file, op)(a, b, c & 0xFFFFFFFF)
    np.testing.assert_array_equal(got, ((c + pairs.sum(-1)) & 0xFFFFFFFF).astype(np.uint64))


# ---- floating point


FLOATS = [(f, e) for f, e in VARIANTS if family(f) in ("f16", "bf16", "tf32", "f8", "f8f6f4")]


@pytest.mark.parametrize(("file", "entry"), FLOATS)
def test_exact_sums(file, entry):
    rng = np.random.default_rng(3)
    m, k = rows_of(file), k_of(file)
    form_a, form_b = element_formats(file, entry)
    accumulator = F16 if entry.endswith("f16") else F32
    a, b, c = float_operands(rng, form_a, form_b, accumulator, m, k)
    run = Run(file, entry)
    got = run(a, b, c, mma="exact")
    values_a, values_b, values_c = fractions(a, form_a), fractions(b, form_b), fractions(c, accumulator)
    for case, i, j in positions(rng, m, 16):
        want = exact(list(values_a[case, i]), list(values_b[case, j]), values_c[case, i, j], accumulator)
        assert got[case, i, j] == want, f"case {KINDS[case]} at {i}, {j}: {got[case, i, j]:#x}, not {want:#x}"


# An accumulator 2^n, half of its last bit, and something far below that decides which way it is rounded: beyond what a
# double holds beside 2^n, and beyond what a pair of doubles does when a term in between cancels.
HALF_WAYS = {
    "f16": (10, [(-14, 1), (-48, 1)]),
    "f16 down": (10, [(-14, 1), (-48, -1)]),
    "f16 negative": (10, [(-15, -1), (-48, -1)]),
    "bf16": (100, [(76, 1), (-120, 1)]),
    "bf16 cancelling": (100, [(76, 1), (20, 1), (-120, 1), (20, -1)]),
    "bf16 cancelling down": (100, [(76, 1), (20, 1), (-120, -1), (20, -1)]),
    "bf16 tie": (100, [(76, 1), (20, 1), (20, -1)]),
    "tf32 cancelling": (100, [(76, 1), (20, 1), (-140, 1), (20, -1)]),
}


@pytest.mark.parametrize("name", HALF_WAYS)
def test_sums_half_way_between_results(name):
    operand, (n, terms) = name.split()[0], HALF_WAYS[name]
    form = FORMATS[operand]
    run = Run(f"m16n8k8_{operand}", "f32")
    zero = np.zeros((1, 16, 8), np.int64)
    a, b, c = zero.copy(), zero[:, :8].copy(), zero.copy()
    code = {e: (e + form.bias) << form.mantissa << form.shift for e in range(form.least, form.bias + 1)}
    for e in range(form.least - form.mantissa, form.least):  # subnormal powers of two
        code[e] = 1 << (e - form.least + form.mantissa) << form.shift
    for at, (e, sign) in enumerate(terms):
        a[0, :, at] = code[e // 2] | (sign < 0) << (form.bits - 1 + form.shift)
        b[0, :, at] = code[e - e // 2]
    c[0] = (n + 127) << 23
    got = run(a, b, c, mma="exact")
    values_a, values_b = fractions(a, form), fractions(b, form)
    want = exact(list(values_a[0, 0]), list(values_b[0, 0]), Fraction(2) ** n, F32)
    assert sum(x * y for x, y in zip(values_a[0, 0], values_b[0, 0], strict=True)) == sum(
        s * Fraction(2) ** e for e, s in terms
    )
    assert (got == want).all()
    # without what decides, the sum is a tie and goes to the even accumulator
    assert (want == c[0, 0, 0]) == (name.endswith(("down", "tie")))


HARDWARE = [(arch, f, e) for arch, operand in MODELS for f, e in FLOATS if family(f) == operand]
# Every mixture of the FP8 to FP4 elements takes the same path: the exact model runs them all, this one some.
HARDWARE = [h for h in HARDWARE if family(h[1]) != "f8f6f4" or h[2].split("_")[0] == "e2m1" or "e5m2_e5m2" in h[2]]


@pytest.mark.parametrize(("arch", "file", "entry"), HARDWARE)
def test_sums_as_tensor_cores_make_them(arch, file, entry):
    rng = np.random.default_rng(4)
    m, k, operand = rows_of(file), k_of(file), family(file)
    form_a, form_b = element_formats(file, entry)
    accumulator = F16 if entry.endswith("f16") else F32
    a, b, c = float_operands(rng, form_a, form_b, accumulator, m, k)
    run = Run(file, entry)
    got = run(a, b, c, mma="hardware", arch=arch, seed=0)
    values_a, values_b, values_c = fractions(a, form_a), fractions(b, form_b), fractions(c, accumulator)
    through_half = (arch, operand) == ("90", "f8")
    least = (-14, -14) if through_half else (form_a.least, form_b.least)
    for case, i, j in positions(rng, m, 16):
        want = hardware(
            list(values_a[case, i]), list(values_b[case, j]), values_c[case, i, j], accumulator, MODELS[arch, operand],
            least, through_half=through_half,
        )  # fmt: skip
        assert got[case, i, j] == want, f"case {KINDS[case]} at {i}, {j}: {got[case, i, j]:#x}, not {want:#x}"


@pytest.mark.parametrize("arch", ["80", "90", "120"])
@pytest.mark.parametrize(
    ("operand", "entry", "products", "want"),
    [
        # 1.5 least subnormals less a bit that is not kept: a tie, to the even 2; were it kept, the result would be 1
        ("f16", "f16", [(Fraction(3, 2) / 2**12, Fraction(1, 2**12)), (Fraction(-1, 2**24), Fraction(1, 2**23))], 2),
        # the least subnormal less a bit that is not kept; were it kept, truncation would leave nothing
        ("bf16", "f32", [(Fraction(1, 2**75), Fraction(1, 2**74)), (Fraction(-1, 2**80), Fraction(1, 2**80))], 1),
    ],
)
def test_tiny_terms_are_aligned_to_the_exponent_of_zero(arch, operand, entry, products, want):
    form = FORMATS[operand]
    code = {form.decode(c): c for c in range(1 << form.bits) if not isinstance(form.decode(c), str)}
    a, b = np.zeros((1, 16, 8), np.int64), np.zeros((1, 8, 8), np.int64)
    for at, (x, y) in enumerate(products):
        a[0, :, at], b[0, :, at] = code[x], code[y]
    run = Run(f"m16n8k8_{operand}", entry)
    assert (run(a, b, np.zeros((1, 16, 8), np.int64), arch=arch, mma="hardware") == want).all()


# Where sums scaled to the fraction leave int32, products or their alignment leave float, or blocks overflow on the way:
# values of A (over k, again and again), of B, and of C.
EDGES = {
    "largest significands": ("f16", [2 - 2.0**-10], [2 - 2.0**-10], [2 - 2.0**-23, 2 - 2.0**-22, 0.0, 1.5]),
    "largest significands, negative": ("f16", [2.0**-10 - 2], [2 - 2.0**-10], [2.0**-23 - 2, -0.0, 2.0**-40]),
    "next to int32's end": ("f16", [2 - 2.0**-10] * 15 + [1.5], [2 - 2.0**-10], [1.0, 0.5, -0.25, 2 - 2.0**-23]),
    "overflow in the first block": ("bf16", [2.0**64] * 8 + [1.0] * 8, [2.0**63], [1.0, -(2.0**127), 0.0]),
    "overflow and its opposite": ("bf16", [2.0**64] * 8 + [-(2.0**64)] * 8, [2.0**63], [1.0, 2.0**100]),
    "overflow of a sum": ("bf16", [2.0**63], [2.0**62], [2.0**127, 0.0, -(2.0**127), -(2.0**126)]),
    "no product": ("bf16", [0.0, -0.0], [1.0], [-0.0, 2.0**-149, -(2.0**-126), 2.0**-127, 2.0**120, 1.0]),
    "products far below c": ("bf16", [2.0**-60, 2.0**-61], [2.0**-50, 3 * 2.0**-51], [1.0, 2.0**100, -(2.0**-90)]),
    "least products": ("bf16", [2.0**-60, -(2.0**-62)], [2.0**-59], [0.0, 2.0**-149, -(2.0**-119), -0.0]),
    "subnormal factors": ("bf16", [2.0**-133, 2.0**-126], [2.0**10, 2.0**-2], [0.0, 2.0**-126, -(2.0**-130)]),
    "subnormal results": ("f16", [2.0**-24, 2.0**-14], [-(2.0**-24), 2.0**-24], [2.0**-140, -(2.0**-48), 0.0]),
    "cancelling": ("f16", [1.0, -1.0], [2 - 2.0**-10, 2 - 2.0**-9], [2.0**-30, -(2.0**-126), 0.0]),
}


@pytest.mark.parametrize("arch", ["80", "90", "120"])
@pytest.mark.parametrize("name", EDGES)
def test_sums_at_the_edges_of_int32_and_float(name, arch):
    operand, *values = EDGES[name]
    form = FORMATS[operand]

    def codes(side, rows):
        x = np.resize(np.array(side, np.float32), 16)
        words = x.astype(np.float16).view(np.uint16) if operand == "f16" else x.view(np.uint32) >> 16
        return words.astype(np.int64)[None, None].repeat(rows, 1)

    a, b = codes(values[0], 16), codes(values[1], 8)
    c = np.resize(np.array(values[2], np.float32).view(np.uint32), 128).reshape(1, 16, 8).astype(np.int64)
    got = Run(f"m16n8k16_{operand}", "f32")(a, b, c, mma="hardware", arch=arch, seed=0)
    values_a, values_b, values_c = fractions(a, form), fractions(b, form), fractions(c, F32)
    model = MODELS.get((arch, operand), MODELS[arch, "f16"])
    for j in range(len(values[2])):
        want = hardware(list(values_a[0, 0]), list(values_b[0, j % 8]), values_c[0, j // 8, j % 8], F32, model,
                        (form.least, form.least))  # fmt: skip
        assert got[0, j // 8, j % 8] == want, f"c = {values[2][j]}: {got[0, j // 8, j % 8]:#x}, not {want:#x}"


# ---- f64


def round64(x: Fraction, mode: str) -> Fraction:
    if x == 0:
        return x
    unit = Fraction(2) ** (max(floor_log2(abs(x)), -1022) - 52)
    low = x // unit
    rest = x / unit - low
    up = {"rn": rest > Fraction(1, 2) or (rest == Fraction(1, 2) and low % 2 == 1), "rm": False, "rp": rest > 0,
          "rz": x < 0 and rest > 0}[mode]  # fmt: skip
    return (low + int(up)) * unit


@pytest.mark.parametrize(("file", "entry"), [v for v in VARIANTS if family(v[0]) == "f64"])
def test_doubles(file, entry):
    rng = np.random.default_rng(6)
    m, k = rows_of(file), k_of(file)
    a, b, c = (rng.standard_normal(s) * 10.0 ** rng.integers(-3, 4, s) for s in ((1, m, k), (1, 8, k), (1, m, 8)))
    got = Run(file, entry)(*(x.view(np.uint64) for x in (a, b, c))).view(np.float64)
    mode = entry.split("_")[1] if "_" in entry else "rn"
    for i in range(m):
        for j in range(8):
            total = Fraction(c[0, i, j])
            for x in range(k):
                total = round64(total + Fraction(a[0, i, x]) * Fraction(b[0, j, x]), mode)
            assert Fraction(got[0, i, j]) == total


# ---- refusals

F, A, B = "{f0,f1,f2,f3}", "{a0,a1,a2,a3}", "{b0,b1}"


@pytest.mark.parametrize(
    ("arch", "text", "why"),
    [
        ("80", f"m16n8k32.row.col.f32.e4m3.e4m3.f32 {F},{A},{B},{F}", "needs .target sm_89 or later"),
        ("90", f"m16n8k32.row.col.kind::f8f6f4.f32.e4m3.e2m1.f32 {F},{A},{B},{F}", "needs .target sm_120a or sm_120f"),
        ("80", f"m16n8k8.row.col.s32.s8.s8.s32 {A},{{a0,a1}},{{b0}},{A}", "no shape"),
        ("80", f"m8n8k4.row.col.f32.f16.f16.f32 {F},{A},{B},{F}", "m16n8k8 or m16n8k16"),
        ("80", f"m16n8k16.row.col.f32.f16.f16.f32 {F},{{a0,a1,a2}},{B},{F}", "vector of 4"),
        ("80", f"m16n8k16.row.row.f32.f16.f16.f32 {F},{A},{B},{F}", "row"),
        ("80", f"m16n8k16.row.col.satfinite.f32.f16.f16.f32 {F},{A},{B},{F}", "satfinite"),
        ("80", f"m16n8k256.row.col.s32.b1.b1.s32.popc {A},{A},{B},{A}", "popc"),
        ("80", f"m16n8k16.row.col.f16.f16.f16.f32 {{a0,a1}},{A},{B},{F}", "accumulator types"),
        ("80", f"m16n8k16.row.col.foo.f32.f16.f16.f32 {F},{A},{B},{F}", "foo"),
        (
            "120f",
            "m16n8k64.row.col.kind::mxf4nvf4.block_scale.scale_vec::4X.f32.e2m1.e2m1.f32.ue8m0 "
            f"{F},{A},{B},{F},a0,{{h,h}},a1,{{h,h}}",
            "scale_vec",
        ),
    ],
)
def test_refused(arch, text, why):
    source = f""".version 9.0
.target sm_{arch}
.address_size 64
.visible .entry k()
{{
.reg .b32 a<8>;
.reg .b32 b<2>;
.reg .f32 f<4>;
.reg .b16 h;
mma.sync.aligned.{text};
ret;
}}
"""
    with emulator.settings(arch=arch), pytest.raises(emulator.EmulatorError, match=why) as refused:
        emulator.Module(source).launch("k", 1, 32)
    assert "10" in str(refused.value)  # its line


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        (f"mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32 {F},{A},{A},{F},a0,0x0", "sparse"),
        (f"mma.sp.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32 {F},{A},{A},{F},a0,0x0", "sparse"),
        (f"wmma.mma.sync.aligned.row.col.m16n16k16.f32.f32 {F},{A},{A},{F}", "unknown instruction 'wmma'"),
        (f"wmma.load.a.sync.aligned.row.m16n16k16.global.f16 {A}, [d]", "unknown instruction 'wmma'"),
        (f"wmma.store.d.sync.aligned.row.m16n16k16.global.f32 [d], {F}", "unknown instruction 'wmma'"),
    ],
)
def test_sparse_and_wmma_are_errors_that_name_the_line(statement, why):
    source = f""".version 9.0
.target sm_80
.address_size 64
.visible .entry k()
{{
.reg .b32 a<4>;
.reg .b64 d;
.reg .f32 f<4>;
{statement};
ret;
}}
"""
    with pytest.raises(emulator.EmulatorError, match=f"line 9: .*{why}"):
        emulator.Module(source).launch("k", 1, 32)


def test_a_partial_warp_is_reported():
    """All 32 lanes take part in mma.sync."""
    module_text = (HERE / "m16n8k16_f16.ptx").read_text()
    with emulator.settings(arch="80"):
        emulator.clear()
        module = emulator.Module(module_text)
        buffers = [emulator.array(np.zeros((1, n, 32), np.uint32)) for n in (4, 4, 2, 4)]
        module.try_launch("f32", 1, 31, *buffers)
        found = emulator.reports()
        emulator.clear()
    assert len(found) == 1
    assert "32 lanes" in found[0]["message"]
