"""A format string of the ops, read: what elements, under which scales, in which layout.

The grammar stands in ``csrc/common/spec.h``; the parser and every number here come out of the extension.
"""

from __future__ import annotations

import cmath
import dataclasses
import math
from functools import lru_cache

import torch

import lowbit._C as _C
from lowbit.formats import ElementFormat
from lowbit.formats import element as element_format


def _blocks(n: int, block: int) -> int:
    return 1 if block == 0 else -(-n // block)


def _bits_of(dtype: torch.dtype) -> int:
    return 8 * dtype.itemsize


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
    layout: str  # canonical, plain, tile16, mma64

    @staticmethod
    @lru_cache(maxsize=256)
    def parse(text: str, argument: str = "format", op: str = "lowbit") -> FormatSpec:
        """Reads `text`. Raises ValueError that names the rule, and the near name for a typo."""
        parts = _C.parse_spec(text, op, argument)
        row = element_format(parts["element"])
        return FormatSpec(
            text=text.partition("@")[0],
            element=parts["element"],
            kind=row.kind,
            bits=row.bits,
            block_rows=parts["block"][0],
            block_cols=parts["block"][1],
            scale=parts["scale"],
            scale_block=parts["scale_block"],
            unit=parts["unit"],
            layout=parts["layout"],
        )

    @property
    def element_format(self) -> ElementFormat:
        """The record of the element format."""
        return element_format(self.element)

    def groups(self, cols: int) -> int:
        """Scales in a row of `cols` elements."""
        return _blocks(cols, self.block_cols)

    def scale_shape(self, rows: int, cols: int) -> tuple[int, int]:
        """Shape of the scales (and zero points) of a rows x cols matrix."""
        return _blocks(rows, self.block_rows), _blocks(cols, self.block_cols)

    def scale2_shape(self, rows: int, cols: int) -> tuple[int, int] | None:
        """Shape of the scales of the scales; None where there is one level."""
        if self.scale_block is None:
            return None
        scale_rows, scale_cols = self.scale_shape(rows, cols)
        return _blocks(scale_rows, self.scale_block[0]), _blocks(scale_cols, self.scale_block[1])

    def bits_per_weight(
        self,
        rows: int,
        cols: int,
        *,
        scale_dtype: torch.dtype = torch.float32,
        zero_dtype: torch.dtype | None = None,
    ) -> float:
        """Bits per element of a rows x cols matrix: codes, scales of both levels and zero points.

        Padding to whole words is left out: what is stored counts it (`lowbit.accounting`).

        Args:
            rows, cols: at least 1.
            scale_dtype: of float scales, of the second level where the first is coded.
            zero_dtype: of the zero points, one a scale; None: there are none.
        """
        scales = math.prod(self.scale_shape(rows, cols))
        coded = None if self.scale is None else element_format(self.scale).bits
        bits = rows * cols * self.bits + scales * (coded or _bits_of(scale_dtype))
        second = self.scale2_shape(rows, cols)
        if second is not None:
            bits += math.prod(second) * _bits_of(scale_dtype)
        if zero_dtype is not None:
            bits += scales * _bits_of(zero_dtype)
        return bits / (rows * cols)

    @property
    def two_level(self) -> bool:
        """Whether the scales have scales of their own."""
        return self.scale_block is not None

    @property
    def scale_format(self) -> str | None:
        """Coded scales as a quantized matrix: its format string."""
        if self.scale is None or self.scale_block is None:
            return self.scale
        rows, cols = self.scale_block
        return f"{self.scale}:{'tensor' if rows == cols == 0 else 'row' if cols == 0 else f'b{rows}x{cols}'}"

    @property
    def is_integer(self) -> bool:
        """Whether the values of the codes are consecutive integers."""
        return self.kind in ("signed", "unsigned")

    @property
    def is_complex(self) -> bool:
        return self.kind == "complex"

    @property
    def values(self) -> tuple[float | complex, ...]:
        """The value of every code, in the order of the codes; empty for a codebook, whose values come with a tensor."""
        return self.element_format.values

    @property
    def invalid_codes(self) -> tuple[int, ...]:
        """Codes that stand for no finite number."""
        if self.kind == "ternary":
            return (2,)
        return tuple(code for code, value in enumerate(self.values) if not cmath.isfinite(value))

    @property
    def canonical_layout(self) -> str:
        """planes, bytes, packed6 or packed4: see ``csrc/formats/layout.h``."""
        return self.element_format.layout

    @property
    def text_with_layout(self) -> str:
        """The format string that an op takes for codes in this layout."""
        return self.text if self.layout == "canonical" else f"{self.text}@{self.layout}"

    def with_layout(self, layout: str) -> FormatSpec:
        """The same format in another layout."""
        return dataclasses.replace(self, layout=layout)
