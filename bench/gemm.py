"""Times lowbit.gemm against torch.nn.functional.linear in float32 and bfloat16, in the same run.

    python bench/gemm.py --m 1 512 --weights int4:g128 int2:g64 --activations int8 bfloat16 float32

Every round calls lowbit, then both linears, each on the next of several copies of its weight, so that at M = 1 the
weights come from memory and not from a cache; a row holds the medians, and the ratios of the least times as well
(`best_...`), which neighbours on the machine disturb less. `x_format` activations ("int8", "float8_e4m3fn")
are quantized inside the call, and that is timed. A result is checked against a float64 product before anything is
timed. One JSON line a row, to stdout and to --out. Two floors rule a call: bytes of the weight over the memory
bandwidth, operations over the peak of the instruction; the columns GB/s and GOP/s are what the quickest call reached of
either.
"""

import argparse
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import lowbit
import lowbit._C as _C
import torch

DENSE = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CACHE_BYTES = 128 << 20  # copies of a weight together exceed this


def commit() -> str:
    try:
        out = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=Path(__file__).parent
        )
        return out.stdout.strip() or "unknown"
    except OSError:
        return "unknown"


def machine() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


class Weight:
    """A random quantized weight and `copies` of its codes."""

    def __init__(self, spec: str, n: int, k: int, prepacked: bool):
        element = spec.split(":")[0].split("/")[0]
        dense = torch.randn(n, k)
        codes, self.scale, self.zero, self.scale2 = torch.ops.lowbit.quantize(dense, spec)
        self.zero = self.zero if self.zero.numel() else None
        self.scale2 = self.scale2 if self.scale2.numel() else None
        self.values = torch.ops.lowbit.dequantize(codes, self.scale, self.zero, spec, k, scale2=self.scale2)
        self.format = spec
        if prepacked:
            codes = torch.ops.lowbit.prepack(codes, spec, k)
            self.format = f"{spec}@tile16"
            if self.scale.dim() == 1:
                self.scale = self.scale[:, None]
        self.bytes = codes.numel() * codes.element_size() + self.scale.numel() * self.scale.element_size()
        self.copies = [codes.clone() for _ in range(CACHE_BYTES // self.bytes + 2)]
        self.element = element


def check(got: torch.Tensor, x: torch.Tensor, w: torch.Tensor, activations: str) -> None:
    """Refuses a wrong result. int8 rows of x are off by at most scale / 2 an element, amax / 254."""
    want = x.double() @ w.double().T
    norm = x.double().abs() @ w.double().abs().T
    if activations in DENSE:
        slack = norm * (2.0**-8 if got.dtype != torch.float32 else 2.0**-15)
    else:
        relative = (got.double() - want).norm() / want.norm()
        if relative < 0.1:
            return
        raise SystemExit(f"wrong result with {activations} activations: relative error {relative:.3f}")
    if not bool(((got.double() - want).abs() <= slack).all()):
        raise SystemExit(f"wrong result with {activations} activations: {(got.double() - want).abs().max():.3g}")


def interleaved(calls: dict[str, Callable[[int], object]], rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median and least seconds of each call; call(i) runs on copy i."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call(i)
            if i > 0:
                seconds[name].append(time.perf_counter() - start)
    return {n: statistics.median(s) for n, s in seconds.items()}, {n: min(s) for n, s in seconds.items()}


def measure(w: Weight, linears: dict[str, list[torch.Tensor]], m: int, activations: str, rounds: int) -> dict:
    n, k = linears["float32"][0].shape
    x = torch.randn(m, k)
    xs = {"float32": x, "bfloat16": x.bfloat16()}
    dense = DENSE.get(activations)
    x_low = x.to(dense) if dense else x
    x_format = None if dense else activations

    def call(i: int) -> torch.Tensor:
        return torch.ops.lowbit.gemm(
            x_low, w.copies[i % len(w.copies)], w.scale, w.zero, w.format, x_format=x_format, w_scale2=w.scale2
        )

    check(call(0), x_low.float(), w.values, activations)
    kernel = _C.last_kernel()
    calls: dict[str, Callable[[int], object]] = {"lowbit": call}
    for name, copies in linears.items():
        calls[name] = lambda i, name=name, copies=copies: torch.nn.functional.linear(xs[name], copies[i % len(copies)])
    t, best = interleaved(calls, rounds)
    return {
        "weight": w.format,
        "activations": activations,
        "m": m,
        "n": n,
        "k": k,
        "kernel": kernel,
        "lowbit_ms": round(t["lowbit"] * 1e3, 4),
        "linear_fp32_ms": round(t["float32"] * 1e3, 4),
        "linear_bf16_ms": round(t["bfloat16"] * 1e3, 4),
        "times_fp32": round(t["float32"] / t["lowbit"], 3),
        "times_bf16": round(t["bfloat16"] / t["lowbit"], 3),
        "best_times_fp32": round(best["float32"] / best["lowbit"], 3),
        "best_times_bf16": round(best["bfloat16"] / best["lowbit"], 3),
        "weight_GB_per_s": round(w.bytes / best["lowbit"] / 1e9, 2),
        "GOP_per_s": round(2 * m * n * k / best["lowbit"] / 1e9, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--m", type=int, nargs="+", default=[1, 512])
    parser.add_argument("--n", type=int, default=4096)
    parser.add_argument("--k", type=int, default=4096)
    parser.add_argument("--weights", nargs="+", default=[f"int{b}:g128" for b in range(8, 0, -1)])
    parser.add_argument("--activations", nargs="+", default=["int8", "bfloat16", "float32"])
    parser.add_argument("--rounds", type=int, default=0, help="0: 30 for M <= 16, else 5")
    parser.add_argument("--threads", type=int, default=0, help="0: as torch has it")
    parser.add_argument("--canonical", action="store_true", help="do not prepack the weights")
    parser.add_argument("--out", type=Path, help="append the rows to this file")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    common = {
        "bench": "gemm",
        "machine": machine(),
        "isa": _C.isa(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "lowbit": getattr(lowbit, "__version__", ""),
        "commit": commit(),
    }
    dense = [torch.randn(args.n, args.k) for _ in range(CACHE_BYTES // (4 * args.n * args.k) + 2)]
    linears = {"float32": dense, "bfloat16": [t.bfloat16() for t in dense + dense]}
    for spec in args.weights:
        w = Weight(spec, args.n, args.k, not args.canonical)
        for activations in args.activations:
            for m in args.m:
                row = common | measure(w, linears, m, activations, args.rounds or (30 if m <= 16 else 5))
                line = json.dumps(row)
                print(line, flush=True)
                if args.out:
                    with args.out.open("a") as f:
                        f.write(line + "\n")


if __name__ == "__main__":
    main()
