"""What `make gpu-check` stands on, as far as it can be tried without a GPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import lowbit
import pytest
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


CHECKED = [
    "test_bounds.py", "test_predict.py", "test_offsets.py", "test_scaled_gemm.py::test_float8_sums_are_promoted",
    "test_scaled_gemm.py::test_float8_is_multiplied_as_it_is_where_that_is_native",
    "test_input_grad.py::test_shapes", "test_hadamard.py::test_within_the_bound_as_tensor_cores_add",
    "test_other_devices.py", "test_binding.py::test_a_seed_on_the_device_is_read_in_the_call",
]  # fmt: skip


@pytest.mark.parametrize("arch", ["89", "90"])
def test_the_tests_run_on_a_device_that_is_no_emulator(arch: str, tmp_path: Path) -> None:
    """With the emulator in the part of the GPU, behind the doors that a GPU stands behind: float tests pass in the one
    model of tensor cores, on the device's own architecture, and what is of the emulator is skipped with a reason."""
    report = tmp_path / "report.xml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "cuda.emulated_gpu", "-p", "no:xdist", "-p", "no:cacheprovider",
         f"--junitxml={report}", *(f"tests/cuda/{name}" for name in CHECKED)],
        cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"LOWBIT_EMU_ARCH": arch, "LOWBIT_EMU_MMA": "hardware", "PYTHONPATH": str(ROOT / "tests")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    cases = ElementTree.parse(report).getroot().iter("testcase")
    skipped: dict[str, str] = {}
    passed: set[str] = set()
    for case in cases:
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        skip = case.find("skipped")
        if skip is None:
            passed.add(name)
        else:
            skipped[name] = skip.get("message", "")
    assert sum("twice_the_bound" in name for name in passed) > 10
    assert not [name for name in passed if "exact" in name]
    assert f"test_input_grad::test_shapes[{arch}-hardware]" in passed
    native = "test_scaled_gemm::test_float8_sums_are_promoted[mma64]"  # names sm_89
    assert native in (passed if arch == "89" else skipped)
    assert sum("test_a_seed" in name for name in passed) == 3
    reasons = {name.partition("::")[0]: reason for name, reason in skipped.items()}
    assert reasons["test_predict"] == "of the emulator alone: predicts from the emulator's counts"
    assert reasons["test_other_devices"] == f"of sm_80 alone: the device runs the code of sm_{arch}"
    assert "mapped: of the emulator alone" in skipped["test_offsets::test_rows_far_apart"]


def test_what_is_of_the_emulator_alone_is_there() -> None:
    assert all((ROOT / "tests" / "cuda" / f"{name}.py").is_file() for name in gpu.EMULATED)


def test_benches_of_a_gpu_make_calls_that_are_right() -> None:
    """The calls of bench/gpu.py, on the CPU and small."""
    path = ROOT / "bench" / "gpu.py"
    spec = importlib.util.spec_from_file_location("bench_gpu", path)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    made = bench.Bench("cpu", 1 << 12, ((2, 64, 128),))
    for family in bench.FAMILIES:
        cases = list(getattr(made, family)())
        assert len(cases) >= 3
        for _, calls in cases:
            assert "lowbit" in calls
            assert len(calls) == 2
            for call in calls.values():
                call()
