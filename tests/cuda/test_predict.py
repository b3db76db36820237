"""`lowbit bench --predict` on the emulator: its counts are those of the product, its bound no less than memory's."""

from __future__ import annotations

import math

import pytest
from emu import emulator
from emu.toolchain import build_emulated_ops
from lowbit import predict

# bytes a second, of the boards in csrc/emu/rt/device.cpp
BANDWIDTH = {"80": 2039e9, "86": 936e9, "89": 1008e9, "90": 3352e9, "120": 1792e9, "121": 273e9}


@pytest.fixture(autouse=True)
def _built() -> None:
    emulator.get("arch")
    build_emulated_ops()


def test_devices_are_those_that_were_built() -> None:
    assert predict.devices() == predict.DEVICES


@pytest.mark.parametrize("arch", BANDWIDTH)
@pytest.mark.parametrize("activation", ["bf16", "int8:row"])
def test_counts_and_bound_of_a_product(arch: str, activation: str) -> None:
    m, n, k = 3, 256, 512
    races = emulator.get("races")
    (row,) = predict.run([(m, n, k)], ["int4:g64"], [activation], [arch])
    multiply_adds = 0
    for name, warps in row.tensor.items():
        shape = name.split(".")[0]
        multiply_adds += warps * math.prod(int(x) for x in shape[1:].replace("n", " ").replace("k", " ").split())
    tiles = math.ceil(m / 8) * 8  # rows of x in an mma
    assert tiles * n * k <= multiply_adds <= 4 * tiles * n * k
    assert row.predicted
    assert row.unrated == ()
    # weight, its fp32 scales, x and the output, which take at least this long
    assert row.least_bytes == n * k // 2 + n * k // 64 * 4 + m * k * 2 + m * n * 2
    assert row.us >= 1e6 * row.least_bytes / BANDWIDTH[arch] * 0.99
    assert row.kernels[-1].startswith("gemm_")
    assert emulator.get("races") == races, "settings are put back"


# bytes that each must move: 4-bit codes with a scale of 4 bytes for 64 of them, values of 2 bytes
LEAST = {
    "hadamard": lambda m, n, k: 4 * m * k,
    "quantize": lambda m, n, k: 2 * n * k + n * k // 2 + n * k // 16,
    "dequantize": lambda m, n, k: 2 * n * k + n * k // 2 + n * k // 16,
    "stochastic_round": lambda m, n, k: 4 * n * k + 16,
    "pack": lambda m, n, k: n * k + n * k // 2,
}


@pytest.mark.parametrize("arch", ["80", "121"])
@pytest.mark.parametrize("op", predict.OPS[1:])
def test_ops_bound_by_memory(op: str, arch: str) -> None:
    m, n, k = 64, 128, 2048
    (row,) = predict.run([(m, n, k)], ["int4:g64"], ["bf16"], [arch], names=[op])
    assert row.predicted
    assert row.op == op
    assert row.unrated == ()
    assert row.least_bytes == LEAST[op](m, n, k)
    assert row.least_bytes <= row.sector_bytes <= 1.3 * row.least_bytes
    assert row.us >= 1e6 * row.least_bytes / BANDWIDTH[arch] * 0.99
    assert (row.wavefronts > 0) == (op == "hadamard")
    assert bool(row.tensor) == (op == "hadamard")
    assert (row.m, row.n, row.k) == ((m, 0, k) if op == "hadamard" else (0, n, k))


def test_wavefronts_of_shared_memory_are_counted() -> None:
    """H_11008 of float32 goes through shared memory more than once."""
    (row,) = predict.run([(64, 8, 11008)], ["int4:g64"], ["fp32"], ["80"], names=["hadamard"])
    assert row.wavefronts > 64 * 11008 // 32
