"""Prints docs/formats.md: the tables of the number formats, out of the built extension."""

import math

from lowbit.formats import BlockFormat, ElementFormat, formats

HEAD = """# Number formats

<!-- printed by docs/formats.py (`make docs`) from csrc/formats/formats.def and blocks.def; edit those -->

A format string of an op is an element format or a named block format, then how elements share a scale: `int4:g64`
(groups of 64 along K), `int4:row`, `int4:tensor`, `float8_e4m3fn:b128x128` (squares), with `/` the format of the scales
where these are codes too (`uint2:g16/uint4:g16`; they have scales of their own and no zero point), with `@` a layout
(`int4:g64@tile16`, what CPUs read; `@mma64`, what tensor cores read). The grammar stands in `csrc/common/spec.h`, the
layouts in `csrc/formats/layout.h`.

## Element formats

`layout` is how codes are stored: `planes` are int32 words of one bit of 32 codes, most significant plane first; `bytes`
are one code each; `packed4` and `packed6` are two codes in a byte and four in three bytes. `least` is the smallest
positive value. Ties of rounding go to the even code unless said otherwise, and what is too large becomes the largest.

| format | bits | kind | largest | smallest | least | not numbers | layout |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""

BLOCKS = """
## Named block formats

Each is a name for the spec beside it, with the rule that finds a block's scale: `power_floor` is that of OCP MX v1.0
(6.3), `two_level` has one float32 scale for the tensor over the block scales. An element's value is its code's value
times `unit`.

| name | spec | scale rule | unit | bits per weight |
| --- | --- | --- | --- | --- |
"""

_KINDS = {"float": "minifloat", "table": "table", "codebook": "table that comes with the tensor"}


def number(value: float) -> str:
    return f"{value:.6g}"


def not_numbers(values: list[float]) -> str:
    nans, infinities = sum(map(math.isnan, values)), sum(map(math.isinf, values))
    return ", ".join(f"{count} {what}" for count, what in ((nans, "NaN"), (infinities, "infinite")) if count) or "-"


def element_row(f: ElementFormat) -> str:
    kind = _KINDS.get(f.kind, f"{f.kind} integer")
    if f.kind == "float":
        kind += f" E{f.exponent}M{f.mantissa}, bias {f.bias}"
    if f.is_complex:
        kind, cells = "complex", ["1, i, -1, -i", "-", "-", "-"]
    elif f.is_codebook:
        cells = ["-"] * 4
    else:
        values = [float(v.real) for v in f.values]
        finite = [v for v in values if math.isfinite(v)]
        if f.kind == "ternary":
            finite.remove(-2)  # what code 2 would be; it is no value of the format
        least = number(min(v for v in finite if v > 0)) if max(finite) > 0 else "-"
        cells = [number(max(finite)), number(min(finite)), least, not_numbers(values)]
    if f.tie != "even":
        kind += f", ties {f.tie}"
    return f"| `{f.name}` | {f.bits} | {kind} | {' | '.join(cells)} | {f.layout} |"


def block_row(f: BlockFormat) -> str:
    spec = f"{f.element.name}:g{f.block}/{f.scale.name}" + (":tensor" if f.scale_block == -1 else "")
    per_weight = f.bits + f.scale.bits / f.block
    return f"| `{f.name}` | `{spec}` | {f.scale_rule} | {number(f.unit)} | {number(per_weight)} |"


def main() -> None:
    rows = formats()
    print(HEAD + "\n".join(element_row(f) for f in rows if isinstance(f, ElementFormat)))
    print(BLOCKS + "\n".join(block_row(f) for f in rows if isinstance(f, BlockFormat)))


if __name__ == "__main__":
    main()
