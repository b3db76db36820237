"""Times of `torch.ops.lowbit.gemm` on a GPU beside `torch.nn.functional.linear` in bf16; a part of `make gpu-check`.

python bench/gpu.py [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import lowbit
import torch
import torch.nn.functional as F

SHAPES = ((1, 4096, 4096), (16, 4096, 4096), (512, 4096, 4096))
WEIGHTS = ("int4:g64", "int8:row", "float8_e4m3fn:row", "nvfp4")
ACTIVATIONS = ("bf16", "int8:row")
ROUNDS = 20


def times(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Medians in microseconds; the calls take turns, each behind a write that empties the caches."""
    sweep = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {name: [] for name in calls}
    for turn in range(ROUNDS + 1):
        for name, call in calls.items():
            sweep.zero_()
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            call()
            end.record()
            if turn:
                events[name].append((begin, end))
    torch.cuda.synchronize()
    return {name: statistics.median(1e3 * b.elapsed_time(e) for b, e in pairs) for name, pairs in events.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    if not lowbit.capabilities()["cuda"]["loaded"] or not torch.cuda.is_available():
        print("bench: a GPU and the CUDA kernels must be there, got none; see lowbit info", file=sys.stderr)
        return 1
    rows = []
    for m, n, k in SHAPES:
        dense = torch.randn(n, k, device="cuda", dtype=torch.bfloat16)
        x = torch.randn(m, k, device="cuda", dtype=torch.bfloat16)
        for weight in WEIGHTS:
            codes, scale, _, scale2 = lowbit.ops.quantize(dense, weight)
            tiled = lowbit.ops.prepack(codes, weight, k, layout="mma64")
            second = scale2 if scale2.numel() else None
            for activation in ACTIVATIONS:
                x_format = None if activation == "bf16" else activation

                def call(tiled=tiled, scale=scale, second=second, weight=weight, x_format=x_format, x=x, k=k):
                    return torch.ops.lowbit.gemm(
                        x, tiled, scale, None, f"{weight}@mma64", x_format=x_format, w_scale2=second, k=k
                    )

                us = times({"lowbit": call, "linear": lambda x=x, dense=dense: F.linear(x, dense)})
                rows.append({"m": m, "n": n, "k": k, "weight": weight, "activation": activation, **us})
                print(f"{m:4} x {n} x {k}  {weight:18} {activation:9} {us['lowbit']:9.1f} us, "
                      f"F.linear bf16 {us['linear']:9.1f} us", flush=True)  # fmt: skip
    if out is not None:
        result = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": rows}
        out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
