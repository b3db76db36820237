"""The suite's modules, as `python bench/run.py` finds them, and limits of a machine that are plain to compute with."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))


@pytest.fixture
def rates() -> dict[str, dict[int, float]]:
    return {
        "int8_dot": {1: 400e9, 2: 800e9},
        "bf16_dot": {1: 200e9, 2: 400e9},
        "fp32_fma": {1: 100e9, 2: 200e9},
        "popcount": {1: 2000e9, 2: 4000e9},
        "int8_dot_avx2": {1: 150e9, 2: 300e9},
        "fp32_fma_avx2": {1: 60e9, 2: 120e9},
        "read_4k": {1: 20e9, 2: 40e9},
    }
