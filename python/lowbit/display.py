"""The tables that people see."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from lowbit.comparison import Row
    from lowbit.microbench import Timing
    from lowbit.predict import Prediction
    from lowbit.quantization import Report


def _numbers(table: Table, *headings: str) -> None:
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)


def megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def rows_table(rows: Sequence["Row"], title: str | None = None) -> Table:
    """The rows of a comparison, each beside the first one (fp32)."""
    table = Table(title=title, title_justify="left")
    table.add_column("recipe", no_wrap=True)
    for heading in (
        "bits/weight",
        "size",
        "perplexity",
        "to fp32",
        "prefill tok/s",
        "to fp32",
        "decode tok/s",
        "to fp32",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    first = rows[0]
    for row in rows:
        change = 100 * (row.perplexity / first.perplexity - 1)
        table.add_row(
            row.recipe,
            f"{row.bits:.3f}",
            megabytes(row.bytes),
            f"{row.perplexity:.4f}",
            f"{change:+.2f} %" if math.isfinite(change) else "-",
            f"{row.prefill_tok_s:.0f}",
            f"{row.prefill_tok_s / first.prefill_tok_s:.2f} x",
            f"{row.decode_tok_s:.1f}",
            f"{row.decode_tok_s / first.decode_tok_s:.2f} x",
        )
    return table


def report_table(report: "Report") -> Table:
    """What `lowbit.quantize` did to each weight."""
    table = Table(
        title=f"{report.recipe}: {len(report.layers)} weights in {report.seconds:.1f} s", title_justify="left"
    )
    table.add_column("weight", no_wrap=True)
    table.add_column("format", no_wrap=True)
    _numbers(table, "bits/weight", "relative error")
    for layer in report.layers:
        table.add_row(layer.name, layer.format, f"{layer.bits:.3f}", f"{layer.error:.3g}")
    return table


def timings_table(timings: Sequence["Timing"]) -> Table:
    """The rows of `lowbit bench`."""
    table = Table()
    for heading in ("op", "M x N x K", "weight", "activation", "kernel"):
        table.add_column(heading, no_wrap=True)
    _numbers(table, "us", "F.linear fp32", "bf16", "fp32 / this", "GB/s", "GOP/s")
    shape = None
    for t in timings:
        if shape is not None and shape != (t.m, t.n, t.k):
            table.add_section()
        shape = (t.m, t.n, t.k)
        table.add_row(
            f"{t.m} x {t.n} x {t.k}",
            t.weight,
            t.activation,
            t.kernel,
            f"{t.us:.1f}",
            f"{t.linear_fp32_us:.1f}",
            f"{t.linear_bf16_us:.1f}",
            f"{t.to_linear:.2f}",
            f"{t.gb_s:.1f}",
            f"{t.gop_s:.0f}",
        )
    return table


def predictions_table(predictions: Sequence["Prediction"]) -> Table:
    """The rows of `lowbit bench --predict`."""
    table = Table(title="predicted from counts and published rates, not measured", title_justify="left")
    for heading in ("M x N x K", "weight", "activation", "arch", "bound by"):
        table.add_column(heading, no_wrap=True)
    _numbers(table, "predicted us", "instructions", "mma", "least bytes", "accessed bytes", "wavefronts")
    shape = None
    for p in predictions:
        if shape is not None and shape != (p.op, p.m, p.n, p.k):
            table.add_section()
        shape = (p.op, p.m, p.n, p.k)
        table.add_row(
            p.op,
            " x ".join(str(size) for size in (p.m, p.n, p.k) if size),
            p.weight,
            p.activation,
            p.arch,
            p.bound,
            f"{p.us:.2f}",
            f"{p.thread_instructions:,}",
            f"{sum(p.tensor.values()):,}",
            f"{p.least_bytes:,}",
            f"{p.sector_bytes:,}",
            f"{p.wavefronts:,}",
        )
    return table


def capabilities_table(known: Mapping[str, Any]) -> Table:
    """What `lowbit.capabilities()` tells, one line each."""
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")

    def words(value: Any) -> str:
        if isinstance(value, Mapping):
            return "; ".join(f"{key}: {words(entry) or '-'}" for key, entry in value.items())
        if isinstance(value, bool):
            return "yes" if value else "no"
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    for key, value in known.items():
        table.add_row(key.replace("_", " "), words(value))
    return table


def recipes_table(listed: Sequence[Mapping[str, str]]) -> Table:
    table = Table("recipe", "what it does")
    for recipe in listed:
        table.add_row(recipe["name"], recipe["summary"])
    return table


def show(what: object) -> None:
    """Prints on stdout, as wide as it needs where stdout is no terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(what)
