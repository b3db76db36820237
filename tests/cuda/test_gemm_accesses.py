"""What the GEMM loops take on the emulator: sectors of global memory and wavefronts of shared memory against the least
there can be, instructions a multiply. The counts are those of 1,024 columns of K more, so of the main loops alone:
rows of `counts.csv`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from cuda import counts
from cuda.gemms import gemm
from cuda.kernels import ARCHS
from emu import emulator
from operands import mixed, operand


@dataclass(frozen=True)
class Case:
    """`x` and `w` as formats; a float dtype of x is dequant_gemm. `zero`: dtype of zero points of w. `archs`: those
    that have the engine; `roomy`: the wide loop has windows where a block has more than 99 KB of shared memory."""

    x: str
    w: str
    layout: str = "mma64"
    archs: tuple[str, ...] = ARCHS
    zero: torch.dtype | None = None
    scale: torch.dtype = torch.float32
    roomy: bool = False


FLOATS = {"bfloat16": torch.bfloat16, "float16": torch.float16}
# Every engine, every way that weights take, every kind of scales and zero points, each at least once
PRODUCTS = {
    "int8 by int4": Case("int8:row", "int4:row"),
    "int8 by int4:g128": Case("int8:row", "int4:g128"),
    "int8:g64 by int4:g64 of halves": Case("int8:g64", "int4:g64", scale=torch.float16),
    "int8 by uint4:g32 less bytes": Case("int8:row", "uint4:g32", zero=torch.int8),
    "int8 by uint4:g128 less integers": Case("int8:row", "uint4:g128", zero=torch.int32),
    "int8 by uint4:g128 less floats": Case("int8:row", "uint4:g128", zero=torch.float32),
    "int8 by int4:g128 in planes": Case("int8:row", "int4:g128", "canonical"),
    "int8 by int4:g128 in tiles": Case("int8:row", "int4:g128", "tile16"),
    "int8 by mxfp4": Case("int8:row", "mxfp4"),
    "int4 by int4:g128": Case("int4:row", "int4:g128"),
    "int4 by int4:g128 in planes": Case("int4:row", "int4:g128", "canonical"),
    "bfloat16 by int4": Case("bfloat16", "int4:row"),
    "bfloat16 by uint4:g128 less bytes": Case("bfloat16", "uint4:g128", zero=torch.uint8),
    "bfloat16 by nvfp4": Case("bfloat16", "nvfp4"),
    "bfloat16 by nf4:g64": Case("bfloat16", "nf4:g64", roomy=True),
    "bfloat16 by uint4:g64 in tiles": Case("bfloat16", "uint4:g64", "tile16", zero=torch.uint8),
    "bfloat16 by float8:g128": Case("bfloat16", "float8_e4m3fn:g128", "canonical", scale=torch.bfloat16),
    "float16 by int4:g64": Case("float16", "int4:g64"),
    "float16 by uint4:g64 in planes": Case("float16", "uint4:g64", "canonical", zero=torch.uint8, roomy=True),
    "float8 by float8": Case("float8_e4m3fn:row", "float8_e4m3fn:b128x128"),
    "float8 by float8 in bytes": Case("float8_e5m2:row", "float8_e4m3fn:row", "canonical"),
    "mxfp8": Case("mxfp8_e4m3", "mxfp8_e4m3"),
    "mxfp4": Case("mxfp4", "mxfp4"),
    "nvfp4": Case("nvfp4", "nvfp4", archs=("120f",)),
    "nvfp4 in bytes": Case("nvfp4", "nvfp4", "canonical", archs=("120f",)),
}
LOOPS = {"wide": 64, "narrow": 8}  # rows of x
MIXED, BINARY = "bfloat16 by mixed uint2:g64", "binary int4 by int1"
ROOMY = ("80", "90")
RUNS = [
    (f"{loop} {name}", arch)
    for loop in LOOPS
    for name, case in (PRODUCTS | {MIXED: Case("bfloat16", "uint2:g64", roomy=True)}).items()
    for arch in case.archs
    if arch in ROOMY or loop == "narrow" or not case.roomy
]
RUNS += [(BINARY, arch) for arch in ARCHS if arch != "120f"]  # b1 is no instruction of sm_120


def launch(name: str, arch: str, k: int) -> None:
    rng = np.random.default_rng(0)
    if name == BINARY:
        x = operand(rng, "int4:row", 8, k)
        gemm("bitplane_gemm", x, operand(rng, "int1:row", 128, k), 128, k, arch)
        return
    loop, _, product = name.partition(" ")
    m = LOOPS[loop]
    if product == MIXED:
        w, more = mixed(rng, "uint2", 128, k, 64, list(range(1, k // 64, 2)), "canonical")
        gemm("dequant_gemm", floats(rng, m, k, torch.bfloat16), w, 128, k, arch, extras=more, alone=True)
        return
    case = PRODUCTS[product]
    w = operand(
        rng, case.w, 128, k, layout=case.layout, scale_dtype=case.scale,
        zero=None if case.zero is None else "float" if case.zero.is_floating_point else "int",
    )  # fmt: skip
    if w.zero is not None:
        w = replace(w, zero=w.zero.to(case.zero))
    if case.x in FLOATS:
        gemm("dequant_gemm", floats(rng, m, k, FLOATS[case.x]), w, 128, k, arch, alone=True)
    else:
        layout = "plain" if case.x.startswith("int") else "canonical"
        gemm("scaled_gemm", operand(rng, case.x, m, k, layout=layout), w, 128, k, arch, alone=True)


def floats(rng: np.random.Generator, m: int, k: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal((m, k)).astype(np.float32)).to(dtype)


def count(name: str, arch: str, k: int) -> counts.Counts:
    with emulator.settings(multiprocessors=1, arch=arch), emulator.listed_instructions():
        emulator.clear()
        launch(name, arch, k)
        found = counts.Counts.of(emulator.counts())
        emulator.clear()
    return found


@pytest.mark.parametrize(("name", "arch"), RUNS)
def test_main_loops(name: str, arch: str) -> None:
    found = count(name, arch, 2048) - count(name, arch, 1024)
    assert found.multiplies > 0
    counts.check((name, arch), found)
