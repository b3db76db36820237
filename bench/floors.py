"""The least time that a row could take on this machine: what must be read or written at the measured bandwidth, or the
operations at the measured peak of their instruction, whichever takes longer."""

import math
from dataclasses import dataclass

from lowbit.spec import FormatSpec

# the same work without AVX-512, of the instructions that the machine then has
WITHOUT_AVX512 = {"int8_dot": "int8_dot_avx2", "bf16_dot": "fp32_fma_avx2", "fp32_fma": "fp32_fma_avx2"}
# of AMX, which peers may use: their limit is higher
TILES = {"int8_dot": "amx_int8", "bf16_dot": "amx_bf16"}
# bf16 products on processors that lack the instruction are fp32 ones
INSTEAD = {"bf16_dot": "fp32_fma"}
_INT8_BLOCKS = ("mxfp4", "nvfp4", "mxint8", "nvint4")


@dataclass(frozen=True)
class Floor:
    seconds: float
    bound: str  # "memory" or the name of the instruction

    def fraction(self, seconds: float) -> float:
        """Of the limit: 1 cannot be exceeded but by luck of the bandwidth probe."""
        return self.seconds / seconds


def instruction(weight: str, activation: str) -> str:
    """The instruction that a product of these formats is bound by."""
    if activation in ("fp32", "fp16"):
        return "fp32_fma"
    if activation == "bf16":
        return "bf16_dot"
    # products of the block formats below are exact in int8 by a table; those of wider floats only in bf16
    if activation.split(":")[0] in _INT8_BLOCKS:
        return "int8_dot"
    is_integer = FormatSpec.parse(activation, "activation").kind in ("signed", "unsigned", "bipolar", "ternary")
    return "int8_dot" if is_integer else "bf16_dot"


def available(name: str, rates: dict[str, dict[int, float]], isa: str) -> str:
    """`name`, or what the machine has in its place."""
    if isa == "avx2":
        name = WITHOUT_AVX512.get(name, name)
    for other in (name, INSTEAD.get(name), WITHOUT_AVX512.get(name)):
        if other in rates:
            return other
    raise ValueError(f"bench: instruction must be one that was measured, got {name}; known are {', '.join(rates)}")


def product(
    shape: tuple[int, int, int],
    moved_bytes: int,
    weight: str,
    activation: str,
    bandwidth: float,
    rates: dict[str, dict[int, float]],
    threads: int,
    isa: str = "avx512",
    tiles: bool = False,
) -> Floor:
    """Of a GEMM (M, N, K). `bandwidth` is that of this row's minute. Of few-bit integers on both sides the faster
    engine counts: one popcount for each pair of planes, or int8 products. `tiles`: of a contender that may use AMX."""
    m, n, k = shape
    operations = 2.0 * m * n * k
    name = available(instruction(weight, activation), rates, isa)
    if tiles and TILES.get(name) in rates:
        name = TILES[name]
    compute = operations / rates[name][threads]
    planes = _planes(weight) * _planes(activation)
    if planes and "popcount" in rates and isa != "avx2":
        counted = planes * operations / rates["popcount"][threads]
        if counted < compute:
            compute, name = counted, "popcount"
    memory = moved_bytes / bandwidth
    return Floor(memory, "memory") if memory >= compute else Floor(compute, name)


def _planes(text: str) -> int:
    """Bit planes of an integer format; 0: it has none."""
    if text in ("fp32", "bf16", "fp16"):
        return 0
    spec = FormatSpec.parse(text, "format")
    if spec.kind not in ("signed", "unsigned", "bipolar", "ternary") or text.split(":")[0] in _INT8_BLOCKS:
        return 0
    return int(spec.bits)


def transform(
    n: int,
    elements: int,
    copy_seconds: float,
    rates: dict[str, dict[int, float]],
    threads: int,
    isa: str = "avx512",
) -> Floor:
    """Of a Hadamard transform: a copy of the same bytes from where they lie, or log2(n) additions an element. An FMA
    counts two operations, an addition one of the same issue slots."""
    additions = elements * math.log2(n)
    name = available("fp32_fma", rates, isa)
    compute = additions / (rates[name][threads] / 2)
    return Floor(copy_seconds, "memory") if copy_seconds >= compute else Floor(compute, name)
