"""What the GEMM loops take on the emulator: sectors of global memory and wavefronts of shared memory against the least
there can be, instructions a multiply. The counts are those of 1,024 columns of K more, so of the main loops alone.
`counts.json` keeps them.

LOWBIT_UPDATE_COUNTS=1 writes the file anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from cuda.gemms import gemm
from cuda.kernels import ARCHS
from emu import emulator
from operands import operand

TABLE = Path(__file__).with_name("counts.json")
MOST = 1.02
KINDS = ("sectors", "sectors_least", "wavefronts", "wavefronts_least", "warp_instructions", "multiplies")

# family, x, w, layout of w, rows of x; where `grouped`, a lane reads the scale of its own row, a sector each: it is
# fetched once, seven of eight groups find it in L1
CASES: dict[str, tuple[str, str, str, str, int, bool]] = {
    "wide int8 by int4": ("scaled_gemm", "int8:row", "int4:row", "mma64", 64, False),
    "wide int8 by int4:g128": ("scaled_gemm", "int8:row", "int4:g128", "mma64", 64, True),
    "narrow int8 by int4": ("scaled_gemm", "int8:row", "int4:row", "mma64", 8, False),
    "narrow int8 by int4:g128": ("scaled_gemm", "int8:row", "int4:g128", "mma64", 8, False),
    "one row of int8 by int4:g128": ("scaled_gemm", "int8:row", "int4:g128", "mma64", 1, False),
    "wide bfloat16 by int4": ("dequant_gemm", "bfloat16", "int4:row", "mma64", 64, False),
    "narrow bfloat16 by int4": ("dequant_gemm", "bfloat16", "int4:row", "mma64", 8, False),
    "narrow bfloat16 by int4:g128": ("dequant_gemm", "bfloat16", "int4:g128", "mma64", 8, False),
    "binary int4 by int1": ("bitplane_gemm", "int4:row", "int1:row", "canonical", 8, False),
}


def count(case: str, arch: str, k: int) -> dict[str, int]:
    family, x_format, w_format, layout, m, _ = CASES[case]
    rng = np.random.default_rng(0)
    w = operand(rng, w_format, 128, k, layout=layout)
    if x_format == "bfloat16":
        x = torch.from_numpy(rng.standard_normal((m, k)).astype(np.float32)).to(torch.bfloat16)
    else:
        x = operand(rng, x_format, m, k, layout="canonical" if family == "bitplane_gemm" else "plain")
    total = dict.fromkeys(KINDS, 0)
    with emulator.settings(sms=1), emulator.listed_instructions():
        gemm(family, x, w, 128, k, arch)
        for launch in emulator.counts():
            for instruction in launch["instructions"]:
                for kind in KINDS[:4]:
                    total[kind] += instruction[kind]
                total["warp_instructions"] += instruction["warps"]
            total["multiplies"] += sum(launch["tensor"].values())
    return total


def main_loop(case: str, arch: str) -> dict[str, int]:
    short, long = count(case, arch, 1024), count(case, arch, 2048)
    return {kind: long[kind] - short[kind] for kind in KINDS}


# b1 is no instruction of sm_120
RUNS = [(case, arch) for case in CASES for arch in ARCHS if not (case.startswith("binary") and arch == "120f")]


@pytest.mark.parametrize(("case", "arch"), RUNS)
def test_main_loops(case: str, arch: str) -> None:
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    found = main_loop(case, arch)
    if os.environ.get("LOWBIT_UPDATE_COUNTS") == "1":
        table.setdefault(case, {})[arch] = found
        TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
    assert found == table[case][arch]
    assert found["multiplies"] > 0
    assert found["wavefronts"] <= MOST * found["wavefronts_least"]
    if not CASES[case][-1]:
        assert found["sectors"] <= MOST * found["sectors_least"]
