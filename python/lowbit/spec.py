"""A format string of the ops, read: what elements, under which scales, in which layout.

The grammar stands in ``csrc/common/spec.h``; the parser and every number here come out of the extension.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import lowbit._C as _C

_ELEMENTS = {row["name"]: row for row in _C.element_formats()}


@dataclasses.dataclass(frozen=True)
class FormatSpec:
    """The parts of a format string such as ``"uint4:g64"``, ``"nvfp4"`` or ``"int8:row@tile16"``."""

    text: str  # without the layout
    element: str  # a name of formats.def
    kind: str  # signed, unsigned, bipolar, ternary, complex, float, table, codebook
    bits: int  # of one code
    block_rows: int  # elements under one scale; 0: all rows
    block_cols: int  # 0: all columns
    scale: str | None  # the element format of coded scales; None: float scales
    scale_block: tuple[int, int] | None  # scales (rows, columns) under one scale of their own, 0: all; None: no such
    unit: float  # an element's value is its code's value times this
    layout: str  # canonical, plain, tile16

    @staticmethod
    @lru_cache(maxsize=256)
    def parse(text: str, argument: str = "format", op: str = "lowbit") -> FormatSpec:
        """Reads `text`. Raises ValueError that names the rule, and the near name for a typo."""
        parts = _C.parse_spec(text, op, argument)
        row = _ELEMENTS[parts["element"]]
        return FormatSpec(
            text=text.partition("@")[0],
            element=parts["element"],
            kind=row["kind"],
            bits=row["bits"],
            block_rows=parts["block"][0],
            block_cols=parts["block"][1],
            scale=parts["scale"],
            scale_block=parts["scale_block"],
            unit=parts["unit"],
            layout=parts["layout"],
        )

    def groups(self, cols: int) -> int:
        """Scales in a row of `cols` elements."""
        return 1 if self.block_cols == 0 else -(-cols // self.block_cols)

    @property
    def two_level(self) -> bool:
        """Whether the scales have scales of their own."""
        return self.scale_block is not None

    @property
    def is_integer(self) -> bool:
        """Whether the values of the codes are consecutive integers."""
        return self.kind in ("signed", "unsigned")

    @property
    def is_complex(self) -> bool:
        return self.kind == "complex"

    @property
    def values(self) -> tuple[float, ...]:
        """The value of every code, in the order of the codes; empty for a codebook, whose values come with a tensor."""
        return tuple(_ELEMENTS[self.element]["values"])

    @property
    def canonical_layout(self) -> str:
        """planes, bytes, packed6 or packed4: see ``csrc/formats/layout.h``."""
        return _ELEMENTS[self.element]["layout"]

    @property
    def text_with_layout(self) -> str:
        """The format string that an op takes for codes in this layout."""
        return self.text if self.layout == "canonical" else f"{self.text}@{self.layout}"

    def with_layout(self, layout: str) -> FormatSpec:
        """The same format in another layout."""
        return dataclasses.replace(self, layout=layout)
