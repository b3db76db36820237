"""Two pictures of a result of bench/run.py: the time of a product with one row against the bits of its weight, and the
fraction of the limit against the number of rows."""

from pathlib import Path
from typing import Any

from tables import best_peer, in_words, own

Row = dict[str, Any]
# the same bytes for the same result
STYLE = {"svg.hashsalt": "lowbit", "font.size": 9}


def series(result: Row, bits: dict[str, int], threads: int) -> dict[int, Row]:
    """Rows with M = 1 and int8 activations of the largest shape that has several widths, by bits."""
    rows = [r for r in result["products"] if r["threads"] == threads and r["activation"] == "int8:row"]
    shape = (rows[0]["n"], rows[0]["k"]) if rows else None
    found: dict[int, Row] = {}
    for row in rows:
        weight = row["weight"].partition("@")[0]
        if row["m"] == 1 and (row["n"], row["k"]) == shape and weight in bits:
            found.setdefault(bits[weight], row)
    return dict(sorted(found.items()))


def by_rows(result: Row, threads: int) -> dict[str, list[tuple[int, float]]]:
    """(M, fraction of the limit) of each weight with int8 activations, on the first shape."""
    lines: dict[str, list[tuple[int, float]]] = {}
    rows = [r for r in result["products"] if r["threads"] == threads and r["activation"] == "int8:row"]
    for row in rows:
        if (row["n"], row["k"]) == (rows[0]["n"], rows[0]["k"]):
            lines.setdefault(row["weight"].partition("@")[0], []).append((row["m"], own(row)["of_limit"]))
    return {weight: sorted(points) for weight, points in lines.items() if len(points) > 1}


def draw(result: Row, folder: Path) -> list[Path]:
    """Writes both; the paths."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt
    from cases import integer

    bits = {f"{integer(b)}:g128": b for b in range(1, 9)}
    counts = sorted({row["threads"] for row in result["products"]})
    written = []
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(counts), figsize=(5 * len(counts), 3.5), squeeze=False, sharey=True)
        for axis, threads in zip(axes[0], counts, strict=True):
            rows = series(result, bits, threads)
            axis.plot(list(rows), [own(r)["us"] for r in rows.values()], "o-", label="lowbit")
            peers = {b: peer["us"] for b, r in rows.items() if (peer := best_peer(r))}
            axis.plot(list(peers), list(peers.values()), "s--", label="best peer")
            axis.plot(list(rows), [own(r)["us"] * own(r)["of_limit"] for r in rows.values()], ":", label="limit")
            axis.set(xlabel="bits of a weight", title=f"one row, {in_words(threads)}", ylim=(0, None))
        axes[0][0].set_ylabel("microseconds")
        axes[0][0].legend()
        written.append(_save(figure, folder / "time_by_bits.svg"))
        figure, axes = plt.subplots(1, len(counts), figsize=(5 * len(counts), 3.5), squeeze=False, sharey=True)
        for axis, threads in zip(axes[0], counts, strict=True):
            for weight, points in by_rows(result, threads).items():
                axis.plot(*zip(*points, strict=True), "o-", label=weight)
            axis.set_xscale("log", base=2)
            axis.set(xlabel="rows of the activation", title=in_words(threads), ylim=(0, 1.1))
        axes[0][0].set_ylabel("fraction of the limit")
        axes[0][-1].legend(fontsize=6)
        written.append(_save(figure, folder / "limit_by_rows.svg"))
        plt.close("all")
    return written


def _save(figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    return path
