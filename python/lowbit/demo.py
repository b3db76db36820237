"""The main job: SmolLM2-135M under many recipes, on lowbit's kernels, compared with PyTorch's fp32 and bf16.

`python -m lowbit.demo --out FOLDER` prints one table and writes it as `table.json`, a picture of perplexity against
size as `table.png`, and one quantized model, which a new process reads back to find the same perplexity.
"""

import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from torch import nn

RECIPES = (
    "bf16",
    "w8a16",
    "w8a8",
    "w8a8-fp8",
    "w8a8-mxfp8",
    "w4a16-g64",
    "w4a16-gptq-g64",
    "w4a16-gptq-g64-head8",
    "w4a16-nvfp4",
    "w4a8",
    "w4a4",
    "w4a4-hadamard",
    "w3a16-g64",
    "w3a16-gptq-g64",
    "w3a16-gptq-g64-head8",
    "w2a16-g32",
    "w2a16-gptq-g32",
    "w2a16-gptq-g32-head8",
    "w2a8-gptq-g32",
)
SAVED = "w4a16-gptq-g64"  # the one that is written and read back

_LEGEND = {
    "PyTorch": "PyTorch, unquantized",
    "a16": "16-bit activations",
    "a8": "8-bit activations",
    "a4": "4-bit activations",
}


@dataclass(frozen=True)
class Finding:
    """Something that is expected of the table, and what the table shows."""

    expected: str
    shown: str
    holds: bool


def findings(rows: Sequence[dict[str, Any]]) -> list[Finding]:
    """What published work lets one expect of these recipes, looked up in the rows of one run."""
    by_name = {row["recipe"]: row for row in rows}
    out: list[Finding] = []

    def ratio(a: str, b: str, key: str) -> float | None:
        if a not in by_name or b not in by_name:
            return None
        top, bottom = by_name[a][key], by_name[b][key]
        return math.inf if top is None else 0.0 if bottom is None else top / bottom

    def at_most(a: str, b: str, percent: float) -> None:
        """perplexity of `a` at most `percent` above (negative: below) that of `b`"""
        r = ratio(a, b, "perplexity")
        if r is not None:
            side = f"at most {percent:g} % above" if percent > 0 else f"at least {-percent:g} % below"
            shown = f"{100 * (r - 1):+.2f} %"
            out.append(Finding(f"perplexity of {a} {side} {b}", shown, 100 * (r - 1) <= percent))

    def at_least(a: str, key: str, what: str, factor: float) -> None:
        r = ratio(a, "fp32", key)
        if r is not None:
            out.append(Finding(f"{what} of {a} at least {factor:g} times fp32", f"{r:.2f} times", r >= factor))

    at_most("w8a16", "fp32", 0.5)
    at_most("w8a8", "fp32", 2)
    at_most("w4a16-gptq-g64", "w4a16-g64", -1)
    at_most("w3a16-gptq-g64", "w3a16-g64", -10)
    at_most("w2a16-gptq-g32", "w2a16-g32", -30)
    at_most("w4a4-hadamard", "w4a4", -10)
    at_least("w4a16-gptq-g64", "decode_tok_s", "decode", 1.5)
    at_least("w4a8", "prefill_tok_s", "prefill", 1.5)
    return out


def picture(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Perplexity against size on disk, one point a row, one colour for each width of the activations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 6), layout="constrained")
    shown = [r for r in rows if r["perplexity"] is not None]
    kinds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _LEGEND}
    for row in shown:
        widths = row["recipe"].partition("-")[0]
        kinds[f"a{widths.partition('a')[2]}" if widths.startswith("w") else "PyTorch"].append(row)
    for (kind, members), marker in zip(kinds.items(), "sovD", strict=True):
        size, perplexity = [r["bytes"] / 1e6 for r in members], [r["perplexity"] for r in members]
        axes.scatter(size, perplexity, marker=marker, label=_LEGEND[kind])
    for row in shown:
        at = (row["bytes"] / 1e6, row["perplexity"])
        axes.annotate(row["recipe"], at, xytext=(5, 4), textcoords="offset points", fontsize=7)
    axes.set(xlabel="size on disk, MB", ylabel="perplexity (lower is better)", xscale="log", yscale="log")
    axes.set_title("SmolLM2-135M on lowbit's kernels")
    axes.grid(which="both", alpha=0.25)
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def read_back(folder: Path, tokens: int) -> float:
    """The perplexity of the model in `folder`, found by a new process."""
    command = [sys.executable, "-m", "lowbit_cli", "eval", "--model", str(folder), "--tokens", str(tokens), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(done.stdout)["rows"][0]["perplexity"])


@click.command()
@click.option("--out", default="demo", type=click.Path(path_type=Path), help="Folder for the table and the picture.")
@click.option("--recipe", "recipes", multiple=True, help="Instead of the demo's own recipes; may be given many times.")
@click.option("--tokens", type=click.IntRange(min=1), help="Predicted tokens of the perplexity.  [default: 16384]")
def main(out: Path, recipes: tuple[str, ...], tokens: int | None) -> None:
    """Quantize SmolLM2-135M under many recipes and compare them."""
    from lowbit import checkpoint, comparison, display, evaluation

    start = time.perf_counter()
    tokens = tokens or evaluation.TOKENS
    names = recipes or RECIPES
    kept = SAVED if SAVED in names else next((n for n in names if n.startswith("w")), None)
    subject = comparison.Subject.load(tokens=tokens)
    out.mkdir(parents=True, exist_ok=True)

    def keep(name: str, model: nn.Module) -> None:
        if name == kept:
            checkpoint.save(model, out / name, tokenizer=subject.tokenizer)

    rows = comparison.compare(subject, names, share_calibration=True, made=keep)
    table = [row.to_dict() for row in rows]
    found = findings(table)
    if kept is not None:
        before = next(r for r in table if r["recipe"] == kept)["perplexity"]
        after = read_back(out / kept, tokens)
        sentence = f"{kept}, saved and read by a new process, has the same perplexity to the last digit"
        found.append(Finding(sentence, f"{before!r} and {after!r}", before == after))
    picture(table, out / "table.png")
    result = {"rows": table, "findings": [asdict(f) for f in found], "seconds": time.perf_counter() - start}
    (out / "table.json").write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")

    display.show(display.rows_table(rows, title="SmolLM2-135M, perplexity of Python's documentation"))
    for finding in found:
        display.show(f"{'yes' if finding.holds else 'NO ':<4} {finding.expected}: {finding.shown}")
    display.show(f"written to {out}: table.json, table.png" + (f", {kept}/" if kept else ""))


if __name__ == "__main__":
    main()
