"""Block-scaled mma.sync: scales, the lanes and bytes they come from, both models of the sum."""

import numpy as np
import pytest
from emu import emulator
from emu.mma_reference import F32, FORMATS, MODELS, decode_ue8m0, exact, fractions, hardware, multiply
from emu.mma_run import (
    CASES,
    HERE,
    KINDS,
    VARIANTS,
    Run,
    as_float,
    element_formats,
    family,
    float_operands,
    k_of,
    own_layouts,
    positions,
)  # fmt: skip


def scale_codes(rng, name, shape, case):
    if name == "ue4m3":
        codes = rng.integers(0x28, 0x48, shape)
        if case == "any":
            codes = rng.integers(0, 0x7F, shape)
        special = 0x7F
    else:
        codes = rng.integers(120, 135, shape)
        if case in ("any", "large"):
            codes = rng.integers(0, 255, shape)
        special = 255
    if case == "special":
        codes = np.where(rng.random(shape) < 0.1, special, codes)
    return codes


def scale_words(rng, codes, lane_of, byte, thread):
    """Registers [case][lane] with noise wherever no scale lies."""
    cases, rows, blocks = codes.shape
    words = rng.integers(0, 2**32, (cases, 32), dtype=np.uint64)
    for row in range(rows):
        for block in range(blocks):
            shift = np.uint64(8 * (byte + block))
            lane = lane_of(row, thread)
            keep = ~(np.uint64(255) << shift)
            words[:, lane] = words[:, lane] & keep | codes[:, row, block].astype(np.uint64) << shift
    return words


SCALED = [(f, e) for f, e in VARIANTS if family(f) in ("mxf8f6f4", "mxf4")]


@pytest.mark.parametrize(("file", "entry"), SCALED)
@pytest.mark.parametrize("model", ["exact", "hardware"])
def test_block_scales(file, entry, model):
    rng = np.random.default_rng(5)
    k, operand = k_of(file), family(file)
    form_a, form_b = element_formats(file, entry)
    scale = "ue4m3" if entry.endswith("ue4m3") else "ue8m0"
    blocks = {"mxf8f6f4": 1, "mxf4": 4 if scale == "ue4m3" else 2}[operand]
    selectors = [(0, 0, 0, 0), (blocks % 4, 1, 0, 3), (4 - blocks, 0, blocks % 4, 2)]
    a, b, c = float_operands(rng, form_a, form_b, F32, 16, k)
    codes_a = np.stack([scale_codes(rng, scale, (16, blocks), kind) for kind in KINDS])
    codes_b = np.stack([scale_codes(rng, scale, (8, blocks), kind) for kind in KINDS])
    values_a, values_b, values_c = fractions(a, form_a), fractions(b, form_b), fractions(c, F32)
    decode = FORMATS["ue4m3"].decode if scale == "ue4m3" else decode_ue8m0
    scale_a = np.vectorize(lambda x: decode(int(x)), otypes=[object])(codes_a)
    scale_b = np.vectorize(lambda x: decode(int(x)), otypes=[object])(codes_b)
    lanes = own_layouts()
    lanes_a, lanes_b = lanes["scale_lanes", "a"], lanes["scale_lanes", "b"].reshape(-1, 2)
    run = Run(file, entry)
    for byte_a, thread_a, byte_b, thread_b in selectors:
        words_a = scale_words(rng, codes_a, lambda r, t: lanes_a[r][t], byte_a, thread_a)
        words_b = scale_words(rng, codes_b, lambda n, t: lanes_b[4 * n + t][1], byte_b, thread_b)
        got = run(a, b, c, words_a, words_b, byte_a, thread_a, byte_b, thread_b, mma=model)
        for case, i, j in positions(rng, 16, 5):
            row, col = list(values_a[case, i]), list(values_b[case, j])
            by_a, by_b = list(scale_a[case, i]), list(scale_b[case, j])
            if model == "hardware":
                mx4 = operand == "mxf4"
                least = ((-6, -6) if scale == "ue4m3" else (-127, -127)) if mx4 else (form_a.least, form_b.least)
                want = hardware(row, col, values_c[case, i, j], F32, MODELS["120", operand], least, by_a, by_b,
                                group=16 if mx4 else 1)  # fmt: skip
            else:
                row = [multiply(x, by_a[at * blocks // k]) for at, x in enumerate(row)]
                col = [multiply(x, by_b[at * blocks // k]) for at, x in enumerate(col)]
                want = exact(row, col, values_c[case, i, j], F32)
            assert got[case, i, j] == want, f"case {KINDS[case]} at {i}, {j}: {got[case, i, j]:#x}, not {want:#x}"


def test_a_group_that_cancels_keeps_its_exponent():
    """kind::mxf4: 1 - 1 under scales of 2^40 pushes a 1 beside it out of the 35 bits; a group of zeros does not."""
    one, minus_one = 0b0010, 0b1010
    a, b = np.zeros((2, 16, 64), np.int64), np.full((2, 8, 64), one)
    a[0, :, :2] = one, minus_one
    a[:, :, 32] = one
    scales = np.full((2, 32), 127 + 20 | 127 << 8)
    zero = np.zeros((2, 16, 8), np.int64)
    got = as_float(Run("m16n8k64_mxf4", "mxf4_ue8m0")(a, b, zero, scales, scales, 0, 0, 0, 0, mma="hardware"))
    assert (got[0] == 0.0).all()
    assert (got[1] == 1.0).all()


def test_selectors_may_be_immediates():
    rng = np.random.default_rng(10)
    form = FORMATS["e4m3"]
    a, b, c = float_operands(rng, form, form, F32, 16, 32)
    scales = [rng.integers(0x70707070, 0x8F8F8F8F, (CASES, 32)) for _ in range(2)]
    run = Run("m16n8k32_mxf8f6f4", "e4m3_e4m3")
    want = run(a, b, c, *scales, 2, 1, 1, 3)
    run.text = run.text.replace("{%h0, %h1}", "{2, 1}").replace("{%h2, %h3}", "{1, 3}")
    np.testing.assert_array_equal(run(a, b, c, *scales, 0, 0, 0, 0), want)
    assert (run(a, b, c, scales[0] ^ 0x00FF00FF << 8, scales[1], 0, 0, 0, 0) == want).all()  # bytes that none selects


def test_selectors_outside_the_register_are_reported():
    zero = emulator.array(np.zeros((1, 4, 32), np.uint32))
    with emulator.settings(arch="120f"):
        module = emulator.Module((HERE / "m16n8k64_mxf4.ptx").read_text())
        for selectors in ((1, 0, 0, 0), (0, 2, 0, 0), (0, 0, 4, 0), (0, 0, 0, 4)):
            emulator.clear()
            module.try_launch("mxf4_ue8m0", 1, 32, emulator.empty((4, 32), np.uint32), *[zero] * 5, *selectors)
            found = emulator.reports()
            assert len(found) == 1
            assert "byte id" in found[0]["message"]
        emulator.clear()
