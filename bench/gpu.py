"""Times of the ops on a GPU, each beside what it is measured against; a part of `make gpu-check`.

python bench/gpu.py [--out FILE.json] [--families gemm hadamard ...]

Products stand beside `torch.nn.functional.linear` in bf16, the others, which memory bounds, beside a copy of the bytes
that they must read and write.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import lowbit
import torch
import torch.nn.functional as F
from torch import Tensor

OPS = torch.ops.lowbit
SHAPES = ((1, 4096, 4096), (16, 4096, 4096), (512, 4096, 4096))
WEIGHTS = ("int4:g64", "int8:row", "float8_e4m3fn:row", "nvfp4")
ACTIVATIONS = ("bf16", "int8:row")
PLANES = (("int1", "int1"), ("int2", "int2"), ("int4", "int1"), ("int8", "int2"))  # of x and w
BLOCKS = (128, 1024, 4096, 14336, 32768)
QUANTIZED = ("int4:g64", "int8:row", "float8_e4m3fn:tensor", "mxfp4", "nvfp4")
UPDATED = ("int8:row", "int4:g64", "float8_e4m3fn:row")
ELEMENTS = 1 << 25  # of the ops that memory bounds: more than a cache holds
ROUNDS = 20

Calls = dict[str, Callable[[], object]]


def times(calls: Calls) -> dict[str, float]:
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


class Bench:
    """The calls of each family on a device; `elements` sets the size of what memory bounds."""

    def __init__(self, device: str = "cuda", elements: int = ELEMENTS, shapes: tuple[tuple[int, ...], ...] = SHAPES):
        self.device, self.elements, self.shapes = device, elements, shapes

    def random(self, rows: int, cols: int) -> Tensor:
        return torch.randn(rows, cols, device=self.device).to(torch.bfloat16)

    def copy(self, size: int) -> Callable[[], object]:
        """Reads and writes `size` bytes in all."""
        source = torch.empty(max(size // 2, 1), dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        return lambda: target.copy_(source)

    def gemm(self) -> Iterator[tuple[str, Calls]]:
        for m, n, k in self.shapes:
            dense, x = self.random(n, k), self.random(m, k)
            for weight in WEIGHTS:
                codes, scale, _, scale2 = lowbit.ops.quantize(dense, weight)
                tiled = lowbit.ops.prepack(codes, weight, k, layout="mma64")
                second = scale2 if scale2.numel() else None
                for activation in ACTIVATIONS:
                    x_format = None if activation == "bf16" else activation

                    def call(x=x, tiled=tiled, scale=scale, second=second, weight=weight, x_format=x_format, k=k):
                        return OPS.gemm(
                            x, tiled, scale, None, f"{weight}@mma64", x_format=x_format, w_scale2=second, k=k
                        )

                    linear = lambda x=x, dense=dense: F.linear(x, dense)  # noqa: E731
                    yield f"{m} x {n} x {k} {weight} {activation}", {"lowbit": call, "linear": linear}

    def bitplane(self) -> Iterator[tuple[str, Calls]]:
        for m, n, k in self.shapes:
            dense, x = self.random(n, k), self.random(m, k)
            for x_format, w_format in PLANES:
                a, a_scale, _, _ = lowbit.ops.quantize(x, f"{x_format}:row")
                b, b_scale, _, _ = lowbit.ops.quantize(dense, f"{w_format}:row")
                planes = (a, a_scale, None, f"{x_format}:row", b, b_scale, None, f"{w_format}:row", k)
                yield (
                    f"{m} x {n} x {k} {x_format} by {w_format}",
                    {
                        "lowbit": lambda planes=planes: OPS.bitplane_gemm(*planes),
                        "linear": lambda x=x, dense=dense: F.linear(x, dense),
                    },
                )

    def hadamard(self) -> Iterator[tuple[str, Calls]]:
        for block in BLOCKS:
            x = self.random(max(1, self.elements // block), block)
            out = torch.empty_like(x)
            call = lambda x=x, out=out: OPS.hadamard.out(x, out=out)  # noqa: E731
            yield f"{x.shape[0]} x {block}", {"lowbit": call, "copy": self.copy(2 * x.nbytes)}

    def quantize(self) -> Iterator[tuple[str, Calls]]:
        x = self.random(max(1, self.elements // 4096), 4096)
        for format in QUANTIZED:
            written = sum(t.nbytes for t in OPS.quantize(x, format))
            call = lambda format=format: OPS.quantize(x, format)  # noqa: E731
            yield f"{x.shape[0]} x 4096 {format}", {"lowbit": call, "copy": self.copy(x.nbytes + written)}

    def update(self) -> Iterator[tuple[str, Calls]]:
        x = self.random(max(1, self.elements // 4096), 4096)
        dw, seed = 0.01 * x, torch.tensor([1, 2], device=self.device)
        for format in UPDATED:
            codes, scale, _, _ = OPS.quantize(x, format)

            def call(codes=codes, scale=scale, format=format):
                return OPS.stochastic_round_update_(codes, scale, None, dw, format, seed)

            moved = dw.nbytes + 2 * codes.nbytes + scale.nbytes
            yield f"{x.shape[0]} x 4096 {format}", {"lowbit": call, "copy": self.copy(moved)}


FAMILIES: tuple[str, ...] = ("gemm", "bitplane", "hadamard", "quantize", "update")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    given = parser.parse_args()
    if not lowbit.capabilities()["cuda"]["loaded"] or not torch.cuda.is_available():
        print("bench: a GPU and the CUDA kernels must be there, got none; see lowbit info", file=sys.stderr)
        return 1
    rows, bench = [], Bench()
    for family in given.families:
        for case, calls in getattr(bench, family)():
            us = times(calls)
            rows.append({"family": family, "case": case, "us": us})
            print(f"{family:9} {case:40}", ", ".join(f"{name} {t:9.1f} us" for name, t in us.items()), flush=True)
    if given.out is not None:
        result = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": rows}
        given.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
