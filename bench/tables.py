"""The Markdown tables of a result of bench/run.py."""

from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]
OWN = "lowbit"

CEILINGS = """
## Limits of the machine

`make bench`, from `{file}`: {processor}, {isa}, torch {torch}, {compiler}, commit {commit}, {minutes} minutes.
Reads and copies in GB/s (of a copy the payload once), instructions in thousand millions of operations a second.

"""

PRODUCTS = """
## Products, {n} x {k}, {threads}

Microseconds, medians of calls that took turns; at M = 1 each after one on another copy of the weight, so that its code
is in the caches and its weight in memory. "Of limit": the time of the weight's bytes at the bandwidth of the same
minute, or of the operations at the measured peak, whichever is longer ("bound"), over the time taken. "Error" is
relative to the same weight with exact activations. \\* marks a spread above 15 %.{scaling}

"""

SCALING = '\n"Of 1 thread": how many times as fast as with one.'

TRANSFORMS = """
## Transforms and codes, {isa}, {threads}

"Of limit": the time of a copy of the bytes read and written, or of the additions, over the time taken.

"""


SMOLLM2 = """
## SmolLM2-135M, {threads}

Milliseconds for a prompt of 512 tokens and for a token after it, medians of contenders that took turns, all but
llama.cpp in one plain loop in Python; "Python": what of a token is its calls. "Error": of the logits after the prompt,
relative to float32 with the same weights. "x": times as fast as torch in float32, and as the faster of the two files of
llama.cpp. \\* marks a spread above 15 %.

"""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *(list(r) for r in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def in_words(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def own(row: Row) -> Row:
    return next(e for e in row["entries"] if e["name"] == OWN)


def best_peer(row: Row) -> Row | None:
    """The fastest, F.linear among them."""
    return min((e for e in row["entries"] if e["name"] != OWN), key=lambda e: e["us"], default=None)


def ceilings(result: Row, file: str) -> str:
    rates = result["ceilings"]["rates"]
    counts = sorted({t for of in rates.values() for t in of}, key=int)
    body = [[f"`{name}`", *(f"{of[t] / 1e9:.4g}" for t in counts)] for name, of in rates.items()]
    about = {key: result["machine"][key] for key in ("processor", "isa", "torch", "compiler", "commit")}
    text = CEILINGS.format(file=file, minutes=result["minutes"], **about)
    text += table(("limit", *(in_words(int(t)) for t in counts)), body)
    lacking = ", ".join(f"`{name}`" for name in result["ceilings"]["lacking"])
    return text + (f"\nThis processor lacks {lacking}.\n" if lacking else "") + _untimed(result)


def _untimed(result: Row) -> str:
    named = dict(result["missing"])
    for row in result["products"] + result["transforms"]:
        named |= row["refused"]
    lines = [f"- {name}: {' '.join(why.split())}\n" for name, why in sorted(named.items())]
    lines += [f"- {name}: not measured in time\n" for name in result["not_measured"]]
    return "\nNot timed:\n\n" + "".join(lines) if lines else ""


def _time(entry: Row) -> str:
    return f"{entry['us']:.4g}{'*' if entry['noisy'] else ''}"


HEAD = ("weight", "activation", "M", "us", "of limit", "bound", "error")
PEER_HEAD = ("best peer", "us", "error", "times as fast")


def products(result: Row) -> str:
    """A table for each shape and number of threads; those of more threads say how much faster they are than one."""
    groups: dict[tuple[int, int, int], list[Row]] = {}
    alone: dict[tuple[Any, ...], float] = {}
    for row in result["products"]:
        groups.setdefault((row["n"], row["k"], row["threads"]), []).append(row)
        if row["threads"] == 1:
            alone[_what(row)] = own(row)["us"]
    out = ""
    for (n, k, threads), rows in groups.items():
        scaled = threads > 1 and any(_what(row) in alone for row in rows)
        body = []
        for row in rows:
            mine, peer = own(row), best_peer(row)
            scaling = [f"{alone[_what(row)] / mine['us']:.2f}" if _what(row) in alone else "-"] if scaled else []
            beside = (
                [peer["name"], _time(peer), f"{peer['error']:.1e}", f"{peer['us'] / mine['us']:.2f}"]
                if peer
                else ["-"] * len(PEER_HEAD)
            )
            body.append(
                [
                    f"`{row['weight'].partition('@')[0]}`", f"`{row['activation']}`", str(row["m"]), _time(mine),
                    f"{mine['of_limit']:.2f}", mine["bound"], f"{mine['error']:.1e}", *scaling, *beside,
                ]
            )  # fmt: skip
        head = (*HEAD, *(("of 1 thread",) if scaled else ()), *PEER_HEAD)
        about = PRODUCTS.format(n=n, k=k, threads=in_words(threads), scaling=SCALING if scaled else "")
        out += about + table(head, body)
    return out


def _what(row: Row) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("n", "k", "m", "weight", "activation"))


def transforms(result: Row) -> str:
    out = ""
    rows = result["transforms"]
    for isa, threads in dict.fromkeys((row["isa"], row["threads"]) for row in rows):
        body = []
        for row in rows:
            if (row["isa"], row["threads"]) != (isa, threads):
                continue
            beside = [row["peer"], f"{row['peer_us'] / row['us']:.2f}"] if row["peer"] else ["-"] * 2
            body.append(
                [
                    row["op"], row["what"], _time(row), f"{row['copy_us']:.4g}", f"{row['of_limit']:.2f}", row["bound"],
                    f"{row['error']:.1e}", *beside,
                ]
            )  # fmt: skip
        out += TRANSFORMS.format(isa=isa, threads=in_words(threads))
        out += table(("op", "of", "us", "copy us", "of limit", "bound", "error", "peer", "times as fast"), body)
    return out


def smollm2(result: Row) -> str:
    out = ""
    rows = result.get("smollm2", [])
    for threads in dict.fromkeys(row["threads"] for row in rows):
        listed = [row for row in rows if row["threads"] == threads]
        body = [
            [
                row["name"], f"{row['bytes'] / 1e6:.1f}", f"{row['error']:.1e}", *_beside(row, "prefill_us", listed),
                *_beside(row, "decode_us", listed), f"{row['python_us'] / 1e3:.2f}" if row["python_us"] else "-",
            ]
            for row in listed
        ]  # fmt: skip
        head = ("weights, activations", "MB", "error")
        head += ("prompt, ms", "x fp32", "x llama.cpp", "token, ms", "x fp32", "x llama.cpp", "Python, ms")
        out += SMOLLM2.format(threads=in_words(threads)) + table(head, body)
    return out


def _beside(row: Row, key: str, rows: list[Row]) -> list[str]:
    """A time in ms, and how many times as fast as torch in float32 and as llama.cpp it is."""
    others = [[r[key] for r in rows if r["name"].startswith(name)] for name in ("torch fp32", "llama.cpp")]
    times = [f"{min(other) / row[key]:.2f}" if other else "-" for other in others]
    return [f"{row[key] / 1e3:.4g}{'*' if row['noisy'] else ''}", *times]
