"""Times lowbit.gemm against torch.nn.functional.linear in fp32 and bf16, as lowbit/microbench.py tells.

    python bench/gemm.py --m 1 512 --weights int4:g128 int2:g64 --activations int8:row bf16 fp32

`lowbit bench` shows the same as a table. Here each row is a line of JSON with the machine in it, printed when it is
known and appended to --out, as bench/results keeps them.
"""

import argparse
import json
from pathlib import Path

import torch
from lowbit import microbench


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--m", type=int, nargs="+", default=[1, 512])
    parser.add_argument("--n", type=int, default=4096)
    parser.add_argument("--k", type=int, default=4096)
    parser.add_argument("--weights", nargs="+", default=[f"int{b}:g128" for b in range(8, 0, -1)])
    parser.add_argument("--activations", nargs="+", default=["int8:row", "bf16", "fp32"])
    parser.add_argument("--rounds", type=int, help="default: 30 for M <= 16, else 5")
    parser.add_argument("--threads", type=int, help="default: as torch has it")
    parser.add_argument("--canonical", action="store_true", help="do not prepack the weights")
    parser.add_argument("--out", type=Path, help="append the rows to this file")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    common = {"bench": "gemm", **microbench.machine()}
    shapes = [(m, args.n, args.k) for m in args.m]
    for timing in microbench.run(shapes, args.weights, args.activations, args.rounds, prepacked=not args.canonical):
        line = json.dumps(common | timing.to_dict())
        print(line, flush=True)
        if args.out:
            with args.out.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
