"""Times lowbit.hadamard against a copy of the same bytes (its floor) and a product with the dense matrix, in one run.

    python bench/hadamard.py --sizes 128 4096 11008 14336 --dtypes float32 bfloat16

Every round calls the transform, the same in place, and the copy in turn; torch.matmul, whose matrix would push x out of
the caches, has rounds of its own. A row holds the median and the least time of each.
`of_copy` is the copy's least time over the transform's: 1 is memory speed. `gadds` counts n log2 n additions a second.
A result is checked before anything is timed. One JSON line a row, to stdout and --out.
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from lowbit import microbench

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DENSE_LIMIT = 4096  # order of the largest dense matrix that is multiplied with


def check(n: int, dtype: torch.dtype) -> None:
    """Refuses a transform that is not orthogonal, or whose result in `dtype` is not the fp32 one rounded."""
    x = torch.randint(-8, 9, (3, n)).to(dtype)
    y = torch.ops.lowbit.hadamard(x.float(), scale=1.0)
    back = torch.ops.lowbit.hadamard(y, scale=1.0 / n, transpose=True)
    if not torch.allclose(back, x.float(), atol=1e-2) or y.norm() < 0.99 * math.sqrt(n) * x.float().norm():
        raise SystemExit(f"the transform of size {n} is not orthogonal")
    if not torch.equal(torch.ops.lowbit.hadamard(x, scale=1.0), y.to(dtype)):
        raise SystemExit(f"the transform of size {n} in {dtype} is not its fp32 result rounded")


def row(n: int, dtype: str, elements: int, seconds: float) -> dict[str, object]:
    x = torch.randn(max(1, elements // n), n).to(DTYPES[dtype])
    out = torch.empty_like(x)
    check(n, DTYPES[dtype])
    calls: dict[str, Callable[[int], object]] = {
        "hadamard": lambda _: torch.ops.lowbit.hadamard.out(x, out=out),
        "in_place": lambda _: torch.ops.lowbit.hadamard.out(out, out=out),
        "copy": lambda _: out.copy_(x),
    }
    times = microbench.interleaved(calls, 5, seconds)
    if n <= DENSE_LIMIT:
        dense = torch.ops.lowbit.hadamard(torch.eye(n)).to(x.dtype)
        times |= microbench.interleaved({"matmul": lambda _: torch.matmul(x, dense, out=out)}, 5, seconds / 2)
    best = {name: min(t) for name, t in times.items()}
    result: dict[str, object] = {"n": n, "rows": x.shape[0], "dtype": dtype}
    for name, t in times.items():
        result[f"{name}_us"] = round(statistics.median(t) * 1e6, 1)
        result[f"best_{name}_us"] = round(best[name] * 1e6, 1)
    result["of_copy"] = round(best["copy"] / best["hadamard"], 3)
    if "matmul" in best:
        result["over_matmul"] = round(best["matmul"] / best["hadamard"], 2)
    result["gadds"] = round(x.numel() * math.log2(max(2, n)) / best["hadamard"] / 1e9, 1)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = [16, 64, 128, 256, 512, 1024, 4096, 16384, 65536, 1536, 5120, 11008, 13824, 14336]
    parser.add_argument("--sizes", type=int, nargs="+", default=default)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["float32", "bfloat16"])
    parser.add_argument("--elements", type=int, default=1 << 20, help="of x, about")
    parser.add_argument("--seconds", type=float, default=0.5, help="of timing a row")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a file that the rows are appended to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    common = {"bench": "hadamard", **microbench.machine()}
    for dtype in args.dtypes:
        for n in args.sizes:
            line = json.dumps(common | row(n, dtype, args.elements, args.seconds))
            print(line, flush=True)
            if args.out:
                with args.out.open("a") as file:
                    file.write(line + "\n")


if __name__ == "__main__":
    main()
