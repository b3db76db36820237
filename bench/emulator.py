"""Speed of the emulator with every checker on: thread-instructions a second and core, where an mma of a warp counts 32.
GEMMs on s8 and f16, and a loop of nothing but mma, under both models of the tensor cores.

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


MODELS = ("exact", "hardware")
# A warp's loop of eight mma that depend on each other, over the fragments that a pointer leads to.
MMA = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {SUMS}, {%a0, %a1, %a2, %a3}, {%b0, %b1}, {SUMS};".replace(
    "SUMS", "%c0, %c1, %c2, %c3"
)
MMA_TURNS = 2000
MMA_LOOP = f"""
.version 9.0
.target sm_80
.address_size 64
.visible .entry loop(.param .u64 fragments, .param .u64 sums)
{{
  .reg .b32 %a<4>, %b<2>, %r<2>;
  .reg .f32 %c<4>;
  .reg .b64 %rd<3>;
  .reg .pred %p;
  ld.param.u64 %rd0, [fragments];
  ld.param.u64 %rd2, [sums];
  mov.u32 %r0, %tid.x;
  mad.wide.u32 %rd1, %r0, 4, %rd0;
  mad.wide.u32 %rd2, %r0, 4, %rd2;
  {" ".join(f"ld.global.b32 %a{i}, [%rd1+{128 * i}];" for i in range(4))}
  {" ".join(f"ld.global.b32 %b{i}, [%rd1+{128 * (4 + i)}];" for i in range(2))}
  {" ".join(f"mov.f32 %c{i}, 0f00000000;" for i in range(4))}
  mov.u32 %r1, 0;
TURN:
  {" ".join([MMA] * 8)}
  add.u32 %r1, %r1, 1;
  setp.lt.u32 %p, %r1, {MMA_TURNS};
  @%p bra TURN;
  {" ".join(f"st.global.f32 [%rd2+{128 * i}], %c{i};" for i in range(4))}
  ret;
}}
"""


def measure(run: Callable[[], None], threads: int) -> dict[str, float]:
    """The best of some rounds of one launch."""
    best = 0.0
    with emulator.settings(threads=threads):
        for _ in range(ROUNDS):
            with emulator.silent():
                begin = time.process_time()
                run()
                spent = time.process_time() - begin
                (launch,) = emulator.counts()
            best = max(best, launch["thread_instructions"] / spent)
    return {
        "threads": threads,
        "thread_instructions": launch["thread_instructions"],
        "a_second_and_core": round(best),
        "reaches_goal": best >= GOAL,
    }


def measure_gemm(call: Callable[..., int], element: Any, accumulator: Any, threads: int) -> dict[str, float]:
    m, n, k = SHAPE
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-3, 4, (rows, k)).astype(element) for rows in (m, n))
    on_device = [emulator.array(a), emulator.array(b), emulator.empty((m, n), accumulator)]

    def run() -> None:
        assert call(m, n, k, *(ctypes.c_void_p(x.pointer) for x in on_device)) == 0

    row = measure(run, threads)
    expected = a.astype(np.float64) @ b.astype(np.float64).T
    assert np.array_equal(on_device[2].get().astype(np.float64), expected)
    return row


def measure_mma_loop() -> dict[str, float]:
    module = emulator.Module(MMA_LOOP)
    fragments = emulator.array(np.random.default_rng(0).standard_normal(2 * 32 * 6).astype(np.float16))
    sums = emulator.empty(32 * 4, np.float32)
    return measure(lambda: module.launch("loop", 1, 32, fragments, sums), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "emulator.json")
    out = parser.parse_args().out
    rows = []

    def keep(row: dict[str, Any]) -> None:
        speed = row["a_second_and_core"] / 1e6
        print(f"{row['workload']:12} {row['model']:9} {row['threads']} threads: {speed:7.1f} million a second and core")
        rows.append(row)

    for model in MODELS:
        with emulator.settings(mma=model):
            for name, (call, element, accumulator) in workloads().items():
                for threads in (1, 2):
                    keep(
                        {"workload": name, "model": model, "shape": SHAPE}
                        | measure_gemm(call, element, accumulator, threads)
                    )
            keep({"workload": "mma loop f16", "model": model} | measure_mma_loop())
    result = {"machine": processor(), "commit": commit(), "goal": GOAL, "checkers": "all", "rows": rows}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
