"""What the models of float sums are for: bounds that hold under each, and FP8 sums that need promotion."""

from fractions import Fraction

import numpy as np
import pytest
from emu.mma_bound import error_bound
from emu.mma_reference import FORMATS, fractions
from emu.mma_run import Run, as_float, element_formats, family, k_of, random_codes


def bound(arch, operand, model, k, steps, magnitude):
    return error_bound(arch, operand, model, k=k, steps=steps, magnitude=magnitude)


def chain(run, a, b, c, k, **settings):
    """Products over a long K: `k` columns at a time, the accumulator fed back."""
    for start in range(0, a.shape[2], k):
        c = run(a[:, :, start : start + k], b[:, :, start : start + k], c, **settings)
    return c


# FP8 near 1 has so few bits that 25 hold every sum: those chains are of all magnitudes.
CHAINS = [
    ("80", "m16n8k16_f16", "f32", "near"),
    ("80", "m16n8k8_tf32", "f32", "near"),
    ("89", "m16n8k32_f8", "e4m3_e4m3_f32", "near"),
    ("90", "m16n8k32_f8", "e4m3_e4m3_f32", "any"),
    ("90", "m16n8k16_bf16", "f32", "near"),
    ("120", "m16n8k32_f8", "e5m2_e4m3_f32", "any"),
]


@pytest.mark.parametrize(("arch", "file", "entry", "magnitudes"), CHAINS)
def test_chains_stay_within_the_bound(arch, file, entry, magnitudes):
    """Under each model, and the bound is not idle."""
    rng = np.random.default_rng(7)
    k = k_of(file)
    form_a, form_b = element_formats(file, entry)
    total = 16 * k
    operand = family(file)
    a = random_codes(rng, form_a, (1, 16, total), magnitudes)
    b = random_codes(rng, form_b, (1, 8, total), magnitudes)
    # positive products: the sum grows and truncation goes one way
    a &= ~(1 << (form_a.bits - 1 + form_a.shift))
    b &= ~(1 << (form_b.bits - 1 + form_b.shift))
    values_a, values_b = fractions(a, form_a).astype(np.float64), fractions(b, form_b).astype(np.float64)
    true = np.einsum("cmk,cnk->cmn", values_a, values_b)  # products of few bits: exact in double
    zero = np.zeros((1, 16, 8), np.uint64)
    run = Run(file, entry)
    largest = {}
    for model in ("exact", "hardware"):
        error = np.abs(as_float(chain(run, a, b, zero, k, arch=arch, mma=model)) - true)
        limit = np.array([bound(arch, operand, model, k, 16, float(m)) for m in true.ravel()]).reshape(true.shape)
        assert (error <= limit).all()
        largest[model] = error.max()
    assert largest["hardware"] > largest["exact"]  # truncation is there


@pytest.mark.parametrize(
    ("arch", "file", "entry", "fraction", "start"),
    [
        ("80", "m16n8k16_f16", "f32", 24, 1.0),
        ("89", "m16n8k32_f8", "e4m3_e4m3_f32", 13, 2.0**10),
        ("90", "m16n8k16_f16", "f32", 25, 1.0),
        ("120", "m16n8k32_f8", "e4m3_e4m3_f32", 25, 2.0**20),
    ],
)
def test_the_bound_is_nearly_reached(arch, file, entry, fraction, start):
    """Every product just below the last bit that is kept beside the accumulator: all of them are lost."""
    form, k = element_formats(file, entry)[0], k_of(file)
    lost = start * 2.0**-fraction  # the bit; a product is 15/16 of it (2^-half * 15/8 * 2^-(rest))
    exponent = int(np.log2(lost)) - 1
    code = {form.decode(c): c for c in range(1 << form.bits) if not isinstance(form.decode(c), str)}
    left = Fraction(2) ** (exponent // 2)
    right = Fraction(2) ** (exponent - exponent // 2) * Fraction(15, 8)
    a, b = np.full((1, 16, k), code[left]), np.full((1, 8, k), code[right])
    c = np.full((1, 16, 8), np.float32(start).view(np.uint32).astype(np.uint64))
    got = as_float(Run(file, entry)(a, b, c, arch=arch, mma="hardware"))
    assert (got == start).all()
    error = k * float(left * right)
    limit = bound(arch, family(file), "hardware", k, 1, start + error)
    assert 0.65 * limit < error <= limit


def test_a_permuted_order_differs_and_stays_within_the_bound():
    """FP8 on sm_90 is two HMMA: which products share one is the compiler's choice."""
    rng = np.random.default_rng(8)
    form = FORMATS["e4m3"]
    a, b = (random_codes(rng, form, (8, r, 32), "any") for r in (16, 8))
    values_a, values_b = fractions(a, form).astype(np.float64), fractions(b, form).astype(np.float64)
    true = np.einsum("cmk,cnk->cmn", values_a, values_b)
    magnitude = np.einsum("cmk,cnk->cmn", np.abs(values_a), np.abs(values_b))
    zero = np.zeros((8, 16, 8), np.uint64)
    run = Run("m16n8k32_f8", "e4m3_e4m3_f32")
    results = [as_float(run(a, b, zero, arch="90", mma="hardware", seed=s)) for s in range(4)]
    assert any((results[0] != r).any() for r in results[1:])
    limit = np.vectorize(lambda m: bound("90", "f8", "hardware", 32, 1, float(m)))(magnitude)
    for r in results:
        assert (np.abs(r - true) <= limit).all()


def test_leaving_out_fp8_promotion_shows():
    """K = 8192 on sm_89: all of it in the 13-bit accumulator against sums of 128 added in f32, as kernels must."""
    rng = np.random.default_rng(9)
    form = FORMATS["e4m3"]
    k, total, promoted = 32, 8192, 128
    a = random_codes(rng, form, (1, 16, total), "near") & 0x7F
    b = random_codes(rng, form, (1, 8, total), "near") & 0x7F
    values_a, values_b = fractions(a, form).astype(np.float64), fractions(b, form).astype(np.float64)
    true = np.einsum("cmk,cnk->cmn", values_a, values_b)
    run, zero = Run("m16n8k32_f8", "e4m3_e4m3_f32"), np.zeros((1, 16, 8), np.uint64)
    # blocks of 128 side by side as cases: each is a chain of its own
    split = [x[0].reshape(x.shape[1], total // promoted, promoted).transpose(1, 0, 2) for x in (a, b)]
    relative = {}
    for model in ("exact", "hardware"):
        settings = {"arch": "89", "mma": model}
        whole = as_float(chain(run, a, b, zero, k, **settings))
        parts = chain(run, *split, np.zeros((total // promoted, 16, 8), np.uint64), k, **settings)
        sums = np.zeros((16, 8), np.float32)
        for part in as_float(parts):
            sums += part.astype(np.float32)
        relative[model] = np.abs(whole - true).max() / true.max(), np.abs(sums - true[0]).max() / true.max()
    whole, promoted_error = relative["hardware"]
    parts_bound = bound("89", "f8", "hardware", k, promoted // k, 1.0) + (total // promoted) * 2.0**-24
    assert promoted_error <= parts_bound
    assert whole > parts_bound, "the chain without promotion must fail the bound of the one with it"
    assert whole > 4 * promoted_error
    assert max(relative["exact"]) < 1e-4  # the exact model cannot see it
