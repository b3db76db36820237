"""Stochastic rounding against the NumPy oracle, bit for bit, and its statistics, on every ISA."""

import lowbit  # noqa: F401
import ml_dtypes
import numpy as np
import pytest
import torch
from oracle import formats
from oracle import quantize as quantizer
from oracle import stochastic_round as oracle

ops = torch.ops.lowbit

ELEMENTS = [n for n in formats.NAMES if n not in ("complex2", *formats.CODEBOOKS)]
SEED = torch.tensor([0x0123456789ABCDEF, 2**40 - 3])


def bits(*shape: int) -> np.ndarray:
    return oracle.random_bits(int(SEED[0]), int(SEED[1]), int(np.prod(shape))).reshape(shape)


def data(name: str, *shape: int) -> np.ndarray:
    """From far below the least step to beyond the range, with values of the format among them."""
    rng = np.random.default_rng(len(name))
    grid = oracle.ascending(name)
    top = min(grid[-1] if grid[-1] > 0 else 1.0, 1e37)
    x = rng.standard_normal(shape) * top * np.exp2(-rng.integers(-1, 20, shape).astype(float))
    x = np.where(rng.random(shape) < 0.2, rng.choice(grid, shape), x)
    x.flat[:4] = [0.0, -0.0, 1e-40, -1e-40][: x.size]
    return np.clip(x, -3e38, 3e38).astype(np.float32)


@pytest.mark.parametrize("name", [*ELEMENTS, "bfloat16", "float16"])
def test_every_format(isa, name):
    for shape in [(3, 100), (1, 1), (0, 4), (2, 3, 17)]:
        x = data(name, *shape)
        got = ops.stochastic_round(torch.from_numpy(x), name, SEED)
        want = oracle.stochastic(name, x, bits(*shape))
        if name == "float8_e8m0fnu":  # negative values are NaN
            want = np.where(x < 0, np.nan, want)
        np.testing.assert_array_equal(got.double().numpy(), want)
        np.testing.assert_array_equal(got.float().numpy(), want.astype(np.float32))


@pytest.mark.parametrize("name", ["int8", "float8_e4m3fn", "float4_e2m1fn", "bfloat16", "float16"])
def test_values_of_the_format_never_move(isa, name):
    grid = torch.from_numpy(oracle.ascending(name)).float()
    for offset in range(2):
        assert torch.equal(ops.stochastic_round(grid, name, torch.tensor([1, offset])).float(), grid)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["int4", "float6_e2m3fn", "ternary"])
def test_result_keeps_the_dtype(isa, dtype, name):
    x = torch.randn(3, 41).to(dtype)
    got = ops.stochastic_round(x, name, SEED)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got.double().numpy(), oracle.stochastic(name, x.double().numpy(), bits(3, 41)))


@pytest.mark.parametrize("name", ["int4", "float8_e4m3fn", "float4_e2m1fn", "bfloat16", "float16", "nf4"])
def test_mean_is_unbiased(isa, name):
    n, rng = 1 << 16, np.random.default_rng(0)
    grid = oracle.ascending(name)
    for x in rng.uniform(max(grid[0], -300), min(grid[-1], 300), 4).astype(np.float32):
        got = ops.stochastic_round(torch.full((n,), float(x)), name, SEED).double().numpy()
        low, high = grid[grid <= x].max(), grid[grid >= x].min()
        assert set(np.unique(got)) <= {low, high}
        # n draws of a coin of probability p: six standard deviations; p itself is rounded to 2^-16 (half of one)
        p = (x - low) / (high - low)
        bound = 6 * np.sqrt(p * (1 - p) / n) + 2.0**-17
        assert abs((got.mean() - x) / (high - low)) <= bound


def test_a_transposed_view_draws_alike(isa):
    """The index is the position in the logical tensor: strides do not matter."""
    x = torch.randn(33, 70)
    want = ops.stochastic_round(x, "int4", SEED)
    assert torch.equal(ops.stochastic_round(x.t().contiguous().t(), "int4", SEED), want)
    wide = torch.randn(33, 140)
    wide[:, ::2] = x
    assert torch.equal(ops.stochastic_round(wide[:, ::2], "int4", SEED), want)
    assert torch.equal(ops.stochastic_round(x.view(3, 11, 70), "int4", SEED).view(33, 70), want)


def test_the_thread_count_does_not_matter(isa):
    x = torch.randn(512, 512)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(ops.stochastic_round(x, "float8_e4m3fn", SEED))
    torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_infinities_and_nan(isa):
    x = torch.tensor([float("inf"), -float("inf"), 3.39e38, 65519.0])
    assert ops.stochastic_round(x[:2], "bfloat16", SEED).tolist() == [float("inf"), -float("inf")]
    top = float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)
    assert ops.stochastic_round(x[2:3], "bfloat16", SEED).item() <= top
    assert ops.stochastic_round(x[3:], "float16", SEED).item() == 65504
    assert ops.stochastic_round(x[:2], "int8", SEED).tolist() == [127, -128]
    assert ops.stochastic_round(x[:1], "float8_e5m2", SEED).isinf().all()
    nan = torch.tensor([[0.0, float("nan")]])
    assert ops.stochastic_round(nan, "bfloat16", SEED).isnan().tolist() == [[False, True]]
    assert ops.stochastic_round(nan, "float8_e4m3fn", SEED).isnan().tolist() == [[False, True]]
    with pytest.raises(ValueError, match="x must not hold NaN for format int8, got one at row 0, column 1"):
        ops.stochastic_round(nan, "int8", SEED)


# ---- the update of a weight --------------------------------------------------------------------------------------


def weight(spec: str, shape=(6, 70), asymmetric=False):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    codes, scale, zero, _ = ops.quantize(torch.from_numpy(x), spec, asymmetric=asymmetric)
    return codes, scale, zero if asymmetric else None


UPDATED = ["int8", "int4:g32", "uint4:g16", "int3:b2x20", "ternary:tensor", "bipolar2:g8", "float8_e4m3fn:g32",
           "float6_e2m3fn:g16", "float4_e2m1fn:g32", "float5_e2m2fn:row"]  # fmt: skip


@pytest.mark.parametrize("spec", UPDATED)
@pytest.mark.parametrize("rescale", [False, True])
def test_update(isa, spec, rescale):
    s = quantizer.spec(spec)
    asymmetric = spec.startswith("uint")
    codes, scale, zero = weight(spec, asymmetric=asymmetric)
    dw = np.random.default_rng(1).normal(0, 0.1, (6, 70)).astype(np.float32)
    old = ops.unpack(codes, s.element, 70).numpy()
    old_scale, old_zero = scale.numpy().copy(), zero.numpy().copy() if asymmetric else None
    ops.stochastic_round_update_(codes, scale, zero, torch.from_numpy(dw), spec, SEED, rescale=rescale)

    divisor = quantizer.expand(old_scale, s.block, 6, 70)
    if rescale:
        v = quantizer.dequantize(old, old_scale, old_zero, s) + dw
        new_scale, _, new_zero, values = quantizer.scales(v, s, asymmetric=asymmetric)
        y = quantizer.quotient(v, values, new_zero, s)
        np.testing.assert_array_equal(scale.numpy(), new_scale)
        if asymmetric:
            np.testing.assert_array_equal(zero.numpy(), new_zero)
    else:
        y = formats.values(s.element)[old].astype(np.float32) + dw / divisor
        np.testing.assert_array_equal(scale.numpy(), old_scale)
    want = oracle.codes(s.element, y, bits(6, 70))
    got = ops.unpack(codes, s.element, 70).numpy()
    np.testing.assert_array_equal(formats.values(s.element)[got], formats.values(s.element)[want])


@pytest.mark.parametrize("spec", UPDATED)
def test_a_zero_update_moves_nothing(isa, spec):
    codes, scale, zero = weight(spec, asymmetric=spec.startswith("uint"))
    s = quantizer.spec(spec)
    before = formats.values(s.element)[ops.unpack(codes, s.element, 70).numpy()]
    for offset in range(3):
        ops.stochastic_round_update_(codes, scale, zero, torch.zeros(6, 70), spec, torch.tensor([5, offset]))
    after = formats.values(s.element)[ops.unpack(codes, s.element, 70).numpy()]
    np.testing.assert_array_equal(after, before)


def test_small_steps_arrive_in_expectation(isa):
    """200 steps of 0.05 quanta: to the nearest nothing would move; each walk has variance at most 200 / 4 * ..."""
    codes, scale, _ = weight("int8:tensor", (64, 64))
    start = ops.dequantize(codes, scale, None, "int8:tensor", 64)
    quantum = scale.item()
    dw = torch.full((64, 64), 0.05 * quantum)
    for step in range(200):
        ops.stochastic_round_update_(codes, scale, None, dw, "int8:tensor", torch.tensor([9, 512 * step]))
    moved = (ops.dequantize(codes, scale, None, "int8:tensor", 64) - start) / quantum
    inside = start / quantum < 100  # the others may reach the end of the range
    # a step is up with p = 0.05: the sum of n steps over m weights has variance n m p (1 - p); six deviations
    n, m = 200, int(inside.sum())
    assert abs(moved[inside].mean().item() - n * 0.05) <= 6 * np.sqrt(n * 0.05 * 0.95 / m) + n * 2.0**-17


def test_experts_draw_by_their_position_in_the_whole_tensor(isa):
    x = torch.randn(3, 4, 40)
    codes, scale, _, _ = ops.quantize(x, "int4:g8")
    flat, flat_scale, _, _ = ops.quantize(x.view(12, 40), "int4:g8")
    dw = 0.1 * torch.randn(3, 4, 40)
    ops.stochastic_round_update_(codes, scale, None, dw, "int4:g8", SEED)
    ops.stochastic_round_update_(flat, flat_scale, None, dw.view(12, 40), "int4:g8", SEED)
    assert torch.equal(ops.unpack(codes, "int4", 40).view(12, 40), ops.unpack(flat, "int4", 40))


def test_a_refused_update_writes_nothing(isa):
    codes, scale, _ = weight("int4:g32")
    before, before_scale = codes.clone(), scale.clone()
    dw = torch.zeros(6, 70)
    dw[4, 2] = float("inf")
    with pytest.raises(ValueError, match=r"stochastic_round_update_: dw must be finite, got inf at row 4, column 2"):
        ops.stochastic_round_update_(codes, scale, None, dw, "int4:g32", SEED, rescale=True)
    assert torch.equal(codes, before)
    assert torch.equal(scale, before_scale)


def test_coded_scales_are_not_rescaled(isa):
    codes, scale, _, _ = ops.quantize(torch.randn(2, 32), "mxfp4")
    ops.stochastic_round_update_(codes, scale, None, torch.randn(2, 32), "mxfp4", SEED)
    with pytest.raises(ValueError, match="format must have float scales to rescale"):
        ops.stochastic_round_update_(codes, scale, None, torch.randn(2, 32), "mxfp4", SEED, rescale=True)
