"""Sectors of global memory and wavefronts of shared memory that the Hadamard and quantize kernels take, as the emulator
counts them, against the least there can be. `accesses.json` keeps the counts.

LOWBIT_UPDATE_ACCESSES=1 writes the file anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cuda.kernels import ARCHS
from cuda.test_hadamard import hadamard
from cuda.test_quantize import quantize
from emu import emulator
from torch import Tensor

TABLE = Path(__file__).with_name("accesses.json")
MOST = 1.02


def draw(rows: int, cols: int) -> Tensor:
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(cols)).to(torch.bfloat16)


CASES: dict[str, Callable[[str], object]] = {
    "hadamard 128": lambda arch: hadamard(draw(8, 1024), 128, arch),
    "hadamard 576": lambda arch: hadamard(draw(4, 576), 576, arch),
    "hadamard 2048": lambda arch: hadamard(draw(2, 2048), 2048, arch),
    "hadamard 8192": lambda arch: hadamard(draw(1, 8192), 8192, arch),
    "hadamard 32768": lambda arch: hadamard(draw(1, 32768), 32768, arch),
    "quantize int4:g64": lambda arch: quantize(draw(8, 2048), "int4:g64", arch),
    "quantize int8": lambda arch: quantize(draw(8, 4096), "int8", arch),
    "quantize mxfp4": lambda arch: quantize(draw(8, 2048), "mxfp4", arch),
    "quantize float8_e4m3fn:tensor": lambda arch: quantize(draw(8, 2048), "float8_e4m3fn:tensor", arch),
}


def counted(case: str, arch: str) -> dict[str, int]:
    kinds = ("sectors", "sectors_least", "wavefronts", "wavefronts_least")
    total = dict.fromkeys(kinds, 0)
    # what one call counts lies between its start, which clears the counts, and its end
    with emulator.listed_instructions():
        CASES[case](arch)
        for launch in emulator.counts():
            for instruction in launch["instructions"]:
                for kind in kinds:
                    total[kind] += instruction[kind]
    return total


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("case", CASES)
def test_accesses(case: str, arch: str) -> None:
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    found = counted(case, arch)
    if os.environ.get("LOWBIT_UPDATE_ACCESSES") == "1":
        table.setdefault(case, {})[arch] = found
        TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
    assert found == table[case][arch]
    assert found["sectors"] <= MOST * found["sectors_least"]
    assert found["sectors"] > 0
    assert found["wavefronts"] <= MOST * found["wavefronts_least"]
