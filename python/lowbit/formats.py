"""The number formats of this build: the rows of ``csrc/formats/formats.def`` and ``blocks.def`` as records.

Everything here is read from the extension; a row that is added there appears here.
"""

from __future__ import annotations

import dataclasses
from functools import cache

import lowbit._C as _C


@dataclasses.dataclass(frozen=True)
class ElementFormat:
    """What a code of a few bits stands for."""

    name: str
    kind: str  # signed, unsigned, bipolar, ternary, complex, float, table, codebook
    bits: int  # of one code
    exponent: int  # floats: bits of the exponent field, of the mantissa, and the exponent's bias; else 0
    mantissa: int
    bias: int
    specials: str  # floats: finite, nan_only, ieee, power
    tie: str  # of nearest rounding: to the "even" code, or "down" to the lower value
    layout: str  # canonical: planes, bytes, packed6, packed4 (csrc/formats/layout.h)
    int8_shift: int  # the least s such that every value times 2^s is an integer of 8 bits; -1: there is none
    exact_in_bf16: bool  # every value
    values: tuple[float | complex, ...]  # by code; empty for a codebook, whose values come with the tensor
    scale_max: float | None = None  # the magnitude that absmax scaling gives the largest element
    max_code: int | None = None  # the code of the largest finite value

    @property
    def is_complex(self) -> bool:
        return self.kind == "complex"

    @property
    def is_codebook(self) -> bool:
        """Whether the values come with the tensor, as the argument `table` of the ops."""
        return self.kind == "codebook"


@dataclasses.dataclass(frozen=True)
class BlockFormat:
    """An element format under a block rule, by name."""

    name: str
    element: ElementFormat
    block: int  # elements along K under one scale
    scale: ElementFormat  # the format of the scale codes
    scale_block: int  # 0: the scales have no scale of their own; -1: one float32 scale for the tensor
    scale_rule: str  # power_floor (OCP MX v1.0, section 6.3) or two_level: how a scale follows from its block
    unit: float  # an element's value is its code's value times this

    @property
    def bits(self) -> int:
        """Of one element code."""
        return self.element.bits


@cache
def _elements() -> dict[str, ElementFormat]:
    rows = ({**row, "values": tuple(row["values"])} for row in _C.element_formats())
    return {row["name"]: ElementFormat(**row) for row in rows}


@cache
def _blocks() -> dict[str, BlockFormat]:
    elements = _elements()
    return {
        row["name"]: BlockFormat(**{**row, "element": elements[row["element"]], "scale": elements[row["scale"]]})
        for row in _C.block_formats()
    }


def formats() -> tuple[ElementFormat | BlockFormat, ...]:
    """Every format that a format string may name: the element formats, then the named block formats."""
    return (*_elements().values(), *_blocks().values())


def element(name: str) -> ElementFormat:
    """The element format called `name`. Raises ValueError with the near name for a typo."""
    found = _elements().get(name)
    if found is None:
        if name in _blocks():
            raise ValueError(
                f'lowbit: format must name an element format, got the block format "{name}"; '
                f'its elements are "{_blocks()[name].element.name}"'
            )
        _C.parse_spec(name)  # raises for what is no format string at all
        raise ValueError(
            f'lowbit: format must name an element format, got the format string "{name}"; '
            f'its elements are "{_C.parse_spec(name)["element"]}"'
        )
    return found


def block_format(name: str) -> BlockFormat:
    """The block format called `name`. Raises ValueError for any other name."""
    found = _blocks().get(name)
    if found is None:
        _C.parse_spec(name)
        raise ValueError(
            f'lowbit: format must name a block format, got "{name}"; use one of {", ".join(_blocks())}, '
            "or a format string with a block rule for all else"
        )
    return found
