"""Speed of the emulator with every checker on: thread-instructions a second and core, where an mma of a warp counts 32.

python bench/emulator.py [--out bench/results/emulator.json]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from emu import emulator  # noqa: E402
from emu.test_third_party import GEMMS, library  # noqa: E402
from emu.toolchain import compile_cuda  # noqa: E402

GOAL = 50e6
SHAPE = (256, 256, 1024)
ROUNDS = 3


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def commit() -> str:
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip()


def workloads() -> dict[str, tuple[Callable[..., int], Any, Any]]:
    plain = emulator.load(compile_cuda(ROOT / "bench" / "cuda" / "plain_gemm.cu"))
    cutlass = {gemm.name: library(gemm) for gemm in GEMMS if gemm.name in ("s8", "f16")}
    return {
        "cutlass s8": (cutlass["s8"].gemm, np.int8, np.int32),
        "cutlass f16": (cutlass["f16"].gemm, np.float16, np.float32),
        "plain s8": (plain.gemm_s8, np.int8, np.int32),
        "plain f16": (plain.gemm_f16, np.float16, np.float32),
    }


def measure(call: Callable[..., int], element: Any, accumulator: Any, threads: int) -> dict[str, float]:
    m, n, k = SHAPE
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-3, 4, (rows, k)).astype(element) for rows in (m, n))
    on_device = [emulator.array(a), emulator.array(b), emulator.empty((m, n), accumulator)]
    best = 0.0
    with emulator.settings(threads=threads):
        for _ in range(ROUNDS):
            with emulator.silent():
                begin = time.process_time()
                assert call(m, n, k, *(ctypes.c_void_p(x.pointer) for x in on_device)) == 0
                spent = time.process_time() - begin
                (launch,) = emulator.counts()
            best = max(best, launch["thread_instructions"] / spent)
    expected = a.astype(np.float64) @ b.astype(np.float64).T
    assert np.array_equal(on_device[2].get().astype(np.float64), expected)
    return {
        "threads": threads,
        "thread_instructions": launch["thread_instructions"],
        "a_second_and_core": round(best),
        "reaches_goal": best >= GOAL,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "emulator.json")
    out = parser.parse_args().out
    rows = []
    for name, (call, element, accumulator) in workloads().items():
        for threads in (1, 2):
            row = {"workload": name, "shape": SHAPE, **measure(call, element, accumulator, threads)}
            print(f"{name:12} {threads} threads: {row['a_second_and_core'] / 1e6:7.1f} million a second and core")
            rows.append(row)
    result = {"machine": processor(), "commit": commit(), "goal": GOAL, "checkers": "all", "rows": rows}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
