"""Prints docs/numbers.md, the tables of what stands in bench/results/, and draws its pictures beside it.

The last result of `make bench` by name counts; while there is none, the lists of single measurements that stand there.
"""

import json
import math
from pathlib import Path
from typing import Any

import pictures
import tables
from tables import table

RESULTS = Path(__file__).resolve().parent / "results"
DOCS = Path(__file__).resolve().parent.parent / "docs"
Row = dict[str, Any]

HEAD = """# Numbers

<!-- printed by bench/report.py (`make docs`) from the files under bench/results/; measure and append there -->

Each figure stands in a file under `bench/results/`, with its machine and commit; none is typed by hand.
"""

DEMO = """
## A language model under recipes

`make demo`, from `demo.json`: {machine}, {threads} threads, torch {torch}, commit {commit}, {minutes:.1f} minutes.
"Bits" are those of all weights with their scales; "x" is relative to fp32 in the same run.

"""

GEMM = """
## GEMM

`lowbit bench`, from `gemm.jsonl`: how many times as fast as `torch.nn.functional.linear` in fp32 in the same
run, medians. Activations are in the head of a column; int8 ones are quantized from fp32 inside the call.
"""

HADAMARD = """
## Hadamard transform

From `hadamard.jsonl`. "Of a copy" is the least time of a copy of the same bytes over that
of the transform: 1 is memory speed. "Over matmul" is how many times as fast as a product with the dense matrix.
"""


def rows_of(name: str) -> list[Row]:
    return [json.loads(line) for line in (RESULTS / name).read_text().splitlines()]


def machine(row: Row) -> str:
    return f"{row['processor']}, {row['isa']}, {tables.in_words(row['threads'])}, torch {row['torch']}"


def demo() -> str:
    result = json.loads((RESULTS / "demo.json").read_text())
    first = result["rows"][0]

    def cells(r: Row) -> list[str]:
        perplexity = math.inf if r["perplexity"] is None else r["perplexity"]
        speeds = [f"{r[k]:.0f} ({r[k] / first[k]:.2f} x)" for k in ("prefill_tok_s", "decode_tok_s")]
        return [f"`{r['recipe']}`", f"{r['bits']:.2f}", f"{r['bytes'] / 1e6:.1f}", f"{perplexity:.3f}", *speeds]

    head = ("recipe", "bits", "MB", "perplexity", "prefill, tokens/s", "decode, tokens/s")
    found = "".join(
        f"- {f['expected']}: {f['shown']}{'' if f['holds'] else ' (does not hold)'}\n" for f in result["findings"]
    )
    about = {k: result[k] for k in ("machine", "threads", "torch", "commit")}
    return DEMO.format(**about, minutes=result["seconds"] / 60) + table(head, map(cells, result["rows"])) + "\n" + found


def gemm() -> str:
    """A table for each machine and layout; of rows for the same thing the last one counts."""
    tables: dict[str, dict[str, dict[tuple[int, str], Row]]] = {}
    for r in rows_of("gemm.jsonl"):
        weight, _, layout = r["weight"].partition("@")
        title = f"{machine(r)}, {r['n']} x {r['k']}, {'prepacked' if layout else 'canonical'} weights"
        tables.setdefault(title, {}).setdefault(weight, {})[r["m"], r["activation"]] = r
    out = GEMM
    for title, weights in tables.items():
        columns = sorted({c for row in weights.values() for c in row}, key=lambda c: (c[0], c[1] != "int8:row", c[1]))
        commits = ", ".join(sorted({r["commit"] for row in weights.values() for r in row.values()}))
        body = [
            [f"`{weight}`", *(f"{row[c]['to_linear']:.2f}" if c in row else "-" for c in columns)]
            for weight, row in sorted(weights.items())
        ]
        heads = ["weight", *(f"M = {m}, {activation}" for m, activation in columns)]
        out += f"\n{title} (commit {commits}):\n\n{table(heads, body)}"
    return out


def hadamard() -> str:
    rows = rows_of("hadamard.jsonl")
    body = [
        [
            str(r["n"]),
            r["dtype"],
            str(r["rows"]),
            f"{r['best_hadamard_us']:.0f}",
            f"{r['of_copy']:.2f}",
            f"{r['over_matmul']:.1f}" if "over_matmul" in r else "-",
        ]
        for r in rows
    ]
    heads = ("n", "dtype", "rows", "least us", "of a copy", "over matmul")
    return f"{HADAMARD}\n{machine(rows[-1])} (commit {rows[-1]['commit']}):\n\n{table(heads, body)}"


def suite(path: Path) -> str:
    result = json.loads(path.read_text())
    drawn = pictures.draw(result, DOCS)
    images = "".join(f"\n![{p.stem.replace('_', ' ')}]({p.name})\n" for p in drawn)
    return "".join(
        [
            tables.ceilings(result, path.name),
            images,
            tables.products(result),
            tables.smollm2(result),
            tables.transforms(result),
        ]
    )


def suite_results(folder: Path = RESULTS) -> list[Path]:
    return sorted(path for path in folder.glob("*.json") if "products" in json.loads(path.read_text()))


if __name__ == "__main__":
    results = suite_results()
    print(HEAD + demo() + (suite(results[-1]) if results else gemm() + hadamard()), end="")
