"""The layout kernels of every ISA against the reference, bit for bit, over widths and odd shapes."""

import lowbit._C as _C
import numpy as np
import pytest
import torch
from compare import vectors_of
from oracle import formats as oracle

OPS = torch.ops.lowbit
WIDTHS = [f"uint{bits}" for bits in range(1, 9)] + ["float3_e1m1fn", "float4_e2m1fn", "float6_e3m2fn", "float8_e5m2"]
FAST = [isa for isa in _C.isa_list() if isa != "ref"]


def with_isa(isa, op, *args, **kwargs):
    before = _C.isa()
    _C.force_isa(isa)
    try:
        return op(*args, **kwargs), _C.last_kernel()
    finally:
        _C.force_isa(before)


def shapes(seed):
    """Around every border: 16 rows of a tile, 4 columns of one, 32 of a word, 64 of a register, 512 of a cache line."""
    rng = np.random.default_rng(seed)
    near = [1, 2, 15, 16, 17, 31, 33, 47, 48, 49]
    for base in (0, 4, 32, 60, 64, 96, 448, 512, 576, 1024):
        for step in (-1, 0, 1, 2):
            if base + step > 0:
                yield int(rng.choice(near)), base + step
    yield 300, 517


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize("name", WIDTHS)
def test_same_bytes_as_the_reference(isa, name):
    for i, (rows, k) in enumerate(shapes(oracle.bits_of(name))):
        codes = torch.from_numpy(np.random.default_rng(i).integers(0, 1 << oracle.bits_of(name), (rows, k), np.uint8))
        calls = {"pack": (OPS.pack, codes, name)}
        expected, _ = with_isa("ref", OPS.pack, codes, name)
        tiles, _ = with_isa("ref", OPS.prepack, expected, name, k)
        calls |= {
            "unpack": (OPS.unpack, expected, name, k),
            "prepack": (OPS.prepack, expected, name, k),
            "unprepack": (OPS.unprepack, tiles, name, rows, k),
        }
        for family, call in calls.items():
            ours, ran = with_isa(isa, *call)
            assert ran == f"{family}:{vectors_of(isa)}"
            theirs = {"pack": expected, "unpack": codes, "prepack": tiles, "unprepack": expected}[family]
            assert torch.equal(ours, theirs), (family, rows, k)


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_for_any_number_of_threads(isa, threads):
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, 8, (523, 777), np.uint8))
    before = torch.get_num_threads()
    expected, _ = with_isa("ref", OPS.pack, codes, "int3")
    torch.set_num_threads(threads)
    try:
        packed, _ = with_isa(isa, OPS.pack, codes, "int3")
        tiles, _ = with_isa(isa, OPS.prepack, packed, "int3", 777)
        back, _ = with_isa(isa, OPS.unprepack, tiles, "int3", 523, 777)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(packed, expected)
    assert torch.equal(back, expected)
