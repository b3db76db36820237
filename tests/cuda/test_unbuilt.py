"""A device that no kernel was built for: every op says so in one sentence, before it launches anything."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from cuda.binding_calls import CALLS, outcome
from cuda.emulated import ARCHS, ops
from emu import emulator

FOLDER = Path(__file__).resolve().parent
FAMILY = {"gemm": "dequant_gemm"}  # whose name the sentence has


def refusals() -> dict[str, object]:
    """What each op says in this process, and the launches of all of them."""
    library, said = ops(), {}
    emulator.clear()
    for name, given in CALLS.items():
        try:
            outcome(library, name, given)
            said[name] = "nothing"
        except Exception as error:
            said[name] = f"{type(error).__name__}: {error}"
    return {"said": said, "launches": [launch["kernel"] for launch in emulator.counts()]}


def test_every_op_refuses_before_it_launches(tmp_path: Path) -> None:
    """One that the driver would compile the embedded PTX of sm_90 for, if it were let."""
    capability = 100
    library = tmp_path / "other_capability.so"
    compiler = os.environ.get("CXX") or shutil.which("g++") or "c++"
    command = [compiler, "-shared", "-fPIC", f"-DCAPABILITY={capability}", str(FOLDER / "other_capability.cpp")]
    subprocess.run([*command, "-o", str(library), "-ldl"], check=True)
    done = subprocess.run(
        [sys.executable, "-c", "import json; from cuda.test_unbuilt import refusals; print(json.dumps(refusals()))"],
        env=os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": str(FOLDER.parent), "LOWBIT_EMU_ARCH": "90"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["launches"] == []
    for name, said in found["said"].items():
        op = name.partition(".")[0]
        assert said == (
            f"RuntimeError: {FAMILY.get(op, op)}: the device must be one that the kernels were built for "
            f"({', '.join(f'sm_{arch}' for arch in ARCHS)}), got sm_{capability}; "
            f"build with LOWBIT_CUDA_ARCHS={capability} or move the tensors to the CPU"
        )
