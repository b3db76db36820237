"""Truncation: the first planes of an integer weight are a narrower weight whose values are the means of what they
stand for. Everything is exact: codes are small integers, factors are powers of two."""

import lowbit._C as _C
import numpy as np
import pytest
import torch
from oracle import formats as oracle

OPS = torch.ops.lowbit
KINDS = {"signed": "int", "unsigned": "uint", "bipolar": "bipolar"}
CASES = [
    (name, bits)
    for name in oracle.INTEGERS
    for bits in range(1, oracle.bits_of(name) + 1)
]  # fmt: skip


def all_codes(name: str) -> torch.Tensor:
    return torch.arange(2 ** oracle.bits_of(name)).to(torch.uint8).reshape(1, -1)


def narrow(name: str, bits: int) -> str:
    return KINDS[next(f["kind"] for f in _C.element_formats() if f["name"] == name)] + str(bits)


@pytest.mark.parametrize(("name", "bits"), CASES)
def test_the_first_planes_are_the_floor(name, bits):
    codes = all_codes(name)
    drop = oracle.bits_of(name) - bits
    packed = OPS.pack(codes, name)
    planes, _, _ = OPS.truncate(packed, torch.ones(1, 1), None, name, bits)
    assert torch.equal(planes, packed[:bits])
    narrowed = OPS.unpack(planes, narrow(name, bits), codes.shape[1])
    assert torch.equal(OPS.truncate(codes, None, None, name, bits)[0], narrowed)
    if not name.startswith("bipolar"):
        floor = np.floor(oracle.values(name) / 2**drop)
        np.testing.assert_array_equal(oracle.values(narrow(name, bits))[narrowed.numpy()[0]], floor)


@pytest.mark.parametrize("zero", [None, 3, -2.75])
@pytest.mark.parametrize(("name", "bits"), CASES)
def test_a_truncated_value_is_the_mean_of_those_that_share_it(name, bits, zero):
    codes = all_codes(name)
    scale = torch.tensor([[0.375]])
    z = (
        None
        if zero is None
        else torch.tensor([[zero]], dtype=torch.float32 if isinstance(zero, float) else torch.int32)
    )
    before = 0.375 * (oracle.values(name) - (zero or 0))
    planes, new_scale, new_zero = OPS.truncate(OPS.pack(codes, name), scale, z, name, bits)
    assert new_zero.dtype == torch.float32
    t = OPS.unpack(planes, narrow(name, bits), codes.shape[1]).numpy()[0]
    after = float(new_scale) * (oracle.values(narrow(name, bits))[t] - float(new_zero))
    for code in np.unique(t):
        assert (after[t == code] == before[t == code].mean()).all()


def test_truncating_twice_is_truncating_once():
    rng = np.random.default_rng(0)
    codes = torch.from_numpy(rng.integers(0, 256, (5, 70), np.uint8))
    scale, zero = torch.rand(5, 2), torch.randint(-9, 9, (5, 2), dtype=torch.int32)
    w = OPS.pack(codes, "int8")
    once = OPS.truncate(w, scale, zero, "int8:g35", 2)
    twice = OPS.truncate(*OPS.truncate(w, scale, zero, "int8:g35", 5), "int5:g35", 2)
    assert all(torch.equal(a, b) for a, b in zip(once, twice, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (5, 3), (3, 5), (0, 3)])
def test_scale_and_zero_keep_their_shapes(dtype, shape):
    scale = torch.rand(shape).to(dtype)
    scale = scale.t() if len(shape) == 2 else scale
    w = torch.zeros(6, 5, 3, dtype=torch.int32)
    _, new_scale, new_zero = OPS.truncate(w, scale, None, "int6:g32", 3)
    assert new_scale.dtype == dtype
    assert torch.equal(new_scale, scale * 8)
    assert torch.equal(new_zero, torch.full(scale.shape, 0.5 / 8 - 0.5))
    for zero in (
        torch.zeros(shape, dtype=torch.uint8),
        torch.zeros(shape, dtype=torch.int8),
        torch.zeros(shape).half(),
    ):
        assert torch.equal(OPS.truncate(w, None, zero, "int6:g32", 3)[2], torch.full(shape, 0.5 / 8 - 0.5))


@pytest.mark.parametrize("lead", [(), (2,), (2, 3), (0,)])
@pytest.mark.parametrize("shape", [(4, 70), (0, 5), (3, 0)])
def test_experts_and_empty_matrices(lead, shape):
    codes = torch.from_numpy(np.random.default_rng(1).integers(0, 32, (*lead, *shape), np.uint8))
    w, scale, zero = OPS.truncate(OPS.pack(codes, "uint5"), None, None, "uint5", 2)
    assert torch.equal(OPS.unpack(w, "uint2", shape[1]), codes >> 3)
    assert list(scale.shape) == list(zero.shape) == [*lead, 1]
    assert (scale == 8).all()
    plain, _, _ = OPS.truncate(codes.to(torch.int8), None, None, "uint5", 2)
    assert torch.equal(plain, (codes >> 3).to(torch.int8))


def test_scales_of_scales_carry_the_step_of_a_truncation():
    """The two ways that the docstring tells for coded scales give the same weight."""
    n, k, spec = 6, 96, "uint4:g16/uint4:g4"
    dense = torch.from_numpy(np.random.default_rng(0).standard_normal((n, k)).astype(np.float32))
    w, scale, zero, scale2 = OPS.quantize(dense, spec, asymmetric=True)
    floats = OPS.dequantize(scale, scale2, None, "uint4:g4", k // 16)
    planes, new_scale, new_zero = OPS.truncate(w, floats, zero, "uint4:g16", 2)
    want = OPS.dequantize(planes, new_scale, new_zero, "uint2:g16", k)
    kept, _, kept_zero = OPS.truncate(w, None, zero, "uint4:g16", 2)
    assert torch.equal(kept, planes)
    got = OPS.dequantize(kept, scale, kept_zero, "uint2:g16/uint4:g4", k, scale2=scale2 * 4)
    assert torch.equal(got, want)
    assert (want - OPS.dequantize(w, floats, zero, "uint4:g16", k)).abs().max() <= 2 * floats.max()
