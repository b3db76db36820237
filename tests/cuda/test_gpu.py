"""What `make gpu-check` stands on, as far as it can be tried without a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import lowbit
import torch
from cuda import gpu

ROOT = Path(__file__).resolve().parent.parent.parent


def test_no_gpu_is_said_plainly() -> None:
    reason = gpu.why_not()
    assert bool(reason) == (not torch.cuda.is_available() or not lowbit.capabilities()["cuda"]["loaded"])
    if reason:
        done = subprocess.run(
            [sys.executable, "-m", "cuda.gpu"], cwd=ROOT / "tests", capture_output=True, text=True
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.startswith("gpu-check: nothing was checked: ")


def test_tensors_go_to_the_device_and_come_back() -> None:
    """With the CPU in the part of the device: strides, what is written in place, what several outputs are."""
    moved = gpu.Moved(torch.ops.lowbit, "cpu")
    x = torch.randn(64, 6).t()[1:5]
    codes, scale, zero, scale2 = moved.quantize(x, "int4:g32")
    expected = lowbit.ops.quantize(x, "int4:g32")
    assert all(torch.equal(a, b) for a, b in zip((codes, scale, zero, scale2), expected, strict=True))
    before, seed = codes.clone(), torch.tensor([1, 2])
    dw = torch.full((4, 64), 3.0)
    moved.stochastic_round_update_(codes, scale, None, dw, "int4:g32", seed)
    lowbit.ops.stochastic_round_update_(before, scale, None, dw, "int4:g32", seed)
    assert torch.equal(codes, before)
    out = torch.zeros(4, 64)
    moved.hadamard.out(x, out=out)
    assert torch.equal(out, lowbit.ops.hadamard(x))
