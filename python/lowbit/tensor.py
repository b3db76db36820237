"""A quantized weight as a plain object."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from lowbit.ops.shapes import TILE_ROWS
from lowbit.spec import FormatSpec

_PARTS = ("codes", "scale", "zero", "scale2", "table")
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_SCALE_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def _refuse(argument: str, rule: str, got: object, way_out: str) -> None:
    raise ValueError(f"QuantTensor: {argument} must be {rule}, got {got}; {way_out}")


@dataclasses.dataclass(frozen=True, eq=False)
class QuantTensor:
    """Codes and scales of a matrix [rows, cols], in one layout: canonical (what checkpoints hold), or a tiled one (what
    kernels read, from `prepack`).

    Args:
        codes: in the layout of `spec` (``csrc/formats/layout.h``).
        scale: [rows, groups] float32, bfloat16 or float16, one element for a scale of the whole matrix, or codes of
            ``spec.scale`` in its canonical layout; None: all ones.
        zero: integer or float zero points, [rows, groups]; None: zero.
        scale2: scales of the scales, float32.
        table: the values of a codebook format, float32, ascending.
        spec: the format and the layout.
        shape: (rows, cols).

    Raises:
        ValueError: a part does not fit the format and shape, a scale is not finite, a code is no value of the format.
    """

    codes: Tensor
    scale: Tensor | None
    zero: Tensor | None
    scale2: Tensor | None
    table: Tensor | None
    spec: FormatSpec
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        self._check_shapes()

    @staticmethod
    def quantize(
        x: Tensor,
        format: str,
        *,
        scale: Tensor | None = None,
        zero: Tensor | None = None,
        asymmetric: bool = False,
        scale_dtype: torch.dtype | str | None = None,
        table: Tensor | None = None,
    ) -> QuantTensor:
        """Rounds a float matrix [rows, cols] to the nearest codes of `format`, under the scale rule of the format or
        under given scales."""
        if x.dim() != 2:
            _refuse("x", "a matrix", tuple(x.shape), "flatten it to [rows, cols]")
        if not bool(torch.isfinite(x).all()):
            _refuse("x", "finite", "inf or nan", "look for overflow where the weight was made")
        spec = FormatSpec.parse(format)
        dtype = _SCALE_DTYPES[scale_dtype] if isinstance(scale_dtype, str) else scale_dtype
        parts = torch.ops.lowbit.quantize(
            x, spec.text, scale=scale, zero=zero, table=table, asymmetric=asymmetric, scale_dtype=dtype
        )
        codes, scale_out, zero_out, scale2 = (part if part.numel() else None for part in parts)
        out = QuantTensor(
            codes=parts[0] if codes is None else codes,
            scale=scale if scale is not None else scale_out,
            zero=zero if zero is not None else zero_out,
            scale2=scale2,
            table=table,
            spec=spec,
            shape=(x.shape[0], x.shape[1]),
        )
        out.check_values()
        return out

    @staticmethod
    def from_codes(
        codes: Tensor,
        format: str,
        scale: Tensor | None,
        *,
        zero: Tensor | None = None,
        scale2: Tensor | None = None,
        table: Tensor | None = None,
    ) -> QuantTensor:
        """From one code a byte, uint8 [rows, cols]: the bits of the code in the low end of the byte."""
        spec = FormatSpec.parse(format)
        packed = torch.ops.lowbit.pack(codes, spec.element)
        out = QuantTensor(packed, scale, zero, scale2, table, spec, (codes.shape[0], codes.shape[1]))
        out.check_values()
        return out

    @property
    def layout(self) -> str:
        return self.spec.layout

    @property
    def device(self) -> torch.device:
        return self.codes.device

    @property
    def nbytes(self) -> int:
        """Bytes in the canonical layout: codes, scales, zero points, scales of scales, table."""
        rest = (self.scale, self.zero, self.scale2, self.table)
        return canonical_bytes(self.spec, *self.shape) + sum(
            t.numel() * t.element_size() for t in rest if t is not None
        )

    @property
    def bits(self) -> float:
        """Bits an element takes, everything counted."""
        return 8.0 * self.nbytes / max(self.shape[0] * self.shape[1], 1)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The values, [rows, cols] (float32, bfloat16 or float16)."""
        return torch.ops.lowbit.dequantize(
            self.codes,
            self.scale,
            self.zero,
            self.spec.text_with_layout,
            self.shape[1],
            scale2=self.scale2,
            table=self.table,
            out_dtype=dtype,
        )

    def unpacked(self) -> Tensor:
        """One code a byte, uint8 [rows, cols]."""
        return torch.ops.lowbit.unpack(self.canonical().codes, self.spec.element, self.shape[1])

    @property
    def can_prepack(self) -> bool:
        """Whether this weight has a prepacked layout: codes in one plane set, and a scale for every row, or rows that
        fill the tiles (prepacked codes do not tell how many rows they hold)."""
        told = self.spec.block_rows == 1 and self.scale is not None and self.scale.dim() >= 2
        fills = self.spec.block_rows != 1 and self.shape[0] % TILE_ROWS == 0
        return (told or fills) and not self.spec.is_complex and min(self.shape) > 0

    def prepack(self, layout: str = "tile16") -> QuantTensor:
        """The same weight in the layout that kernels read; itself where it has none. With "tile16" numbers of a column
        of scales and zero points lie together where each row has its own and they are few: their shapes stay."""
        if self.layout != "canonical" or not self.can_prepack:
            return self
        codes = torch.ops.lowbit.prepack(self.codes, self.spec.element, self.shape[1], layout=layout)
        scale, zero = self.scale, self.zero
        if layout == "tile16" and self.spec.block_rows == 1:
            scale = _by_columns(scale) if self.spec.scale is None else scale
            zero = _by_columns(zero)
        return dataclasses.replace(self, codes=codes, scale=scale, zero=zero, spec=self.spec.with_layout(layout))

    def canonical(self) -> QuantTensor:
        """The same weight in the layout that checkpoints hold, by the inverse of `prepack`."""
        if self.layout == "canonical":
            return self
        codes = torch.ops.lowbit.unprepack(self.codes, f"{self.spec.element}@{self.layout}", *self.shape)
        scale, zero = (None if part is None else part.contiguous() for part in (self.scale, self.zero))
        return dataclasses.replace(self, codes=codes, scale=scale, zero=zero, spec=self.spec.with_layout("canonical"))

    def to(self, device: torch.device | str) -> QuantTensor:
        """On another device. Dtypes do not change: they belong to the format."""
        moved: dict[str, Any] = {name: None if part is None else _moved(part, device) for name, part in self._parts()}
        return dataclasses.replace(self, **moved)

    def state_dict(self) -> dict[str, Tensor]:
        """The parts that exist, canonical."""
        return {name: part.contiguous() for name, part in self.canonical()._parts() if part is not None}

    @staticmethod
    def from_state_dict(state: dict[str, Tensor], format: str, shape: tuple[int, int]) -> QuantTensor:
        """The inverse of `state_dict`. Everything is checked, values too."""
        if "codes" not in state:
            _refuse("state_dict", 'with "codes"', sorted(state), "pass what state_dict returned")
        unknown = sorted(set(state) - set(_PARTS))
        if unknown:
            _refuse("state_dict", f"made of {_PARTS}", unknown, "pass what state_dict returned")
        spec = FormatSpec.parse(format)
        out = QuantTensor(**{name: state.get(name) for name in _PARTS}, spec=spec, shape=shape)  # type: ignore[arg-type]
        out.check_values()
        return out

    def metadata(self) -> dict[str, Any]:
        """Format and shape, which `from_state_dict` needs beside the tensors. JSON-ready."""
        return {"format": self.spec.text, "shape": list(self.shape)}

    def check_values(self) -> None:
        """Refuses scales that are not finite and codes that are no value of the format."""
        for name, part in (("scale", self.scale), ("zero", self.zero), ("scale2", self.scale2), ("table", self.table)):
            if part is not None and part.is_floating_point() and not bool(torch.isfinite(part.float()).all()):
                _refuse(name, "finite", "inf or nan", "the weight or the file it came from is damaged")
        if self.scale is not None and self.spec.scale is not None:
            rows, groups = self._scale_shape()
            _check_codes("scale", self.scale, FormatSpec.parse(self.spec.scale), rows, groups)
        whole = self.canonical()
        _check_codes("codes", whole.codes, self.spec, *self.shape)

    def _parts(self) -> list[tuple[str, Tensor | None]]:
        return [(name, getattr(self, name)) for name in _PARTS]

    def _scale_shape(self) -> tuple[int, int]:
        rows, cols = self.shape
        block_rows = self.spec.block_rows
        return (1 if block_rows == 0 else -(-rows // block_rows)), self.spec.groups(cols)

    def _check_shapes(self) -> None:
        rows, groups = self._scale_shape()
        if self.layout == "canonical":
            want = canonical_shape(self.spec, *self.shape)
            dtype = torch.int32 if self.spec.canonical_layout == "planes" else torch.uint8
            got = self.codes.view(torch.uint8) if self.codes.element_size() == 1 else self.codes
            if tuple(got.shape) != want or got.dtype != dtype:
                _refuse(
                    "codes",
                    f"{dtype} {list(want)} for {list(self.shape)} in {self.spec.text}",
                    f"{got.dtype} {list(got.shape)}",
                    "lowbit.pack makes them from one code a byte",
                )
        if self.scale is None:
            if self.spec.scale is not None:
                _refuse("scale", f"given for {self.spec.text}", None, "QuantTensor.quantize makes it")
        elif self.spec.scale is None:
            self._check_block_values("scale", self.scale, rows, groups, _FLOATS)
        else:
            want = canonical_shape(FormatSpec.parse(self.spec.scale), rows, groups)
            if tuple(self.scale.shape) != want:
                _refuse(
                    "scale",
                    f"{list(want)} for {self.spec.text}",
                    list(self.scale.shape),
                    "QuantTensor.quantize makes it",
                )
        if self.zero is not None:
            self._check_block_values("zero", self.zero, rows, groups, (*_FLOATS, torch.int32, torch.int8, torch.uint8))
        if self.spec.two_level != (self.scale2 is not None):
            rule = "given" if self.spec.two_level else "None"
            _refuse("scale2", f"{rule} for {self.spec.text}", self.scale2, "QuantTensor.quantize makes it")
        needs_table = self.spec.kind == "codebook"
        if needs_table != (self.table is not None):
            rule = "given" if needs_table else "None"
            _refuse("table", f"{rule} for {self.spec.text}", self.table, "only codebook formats have one")

    def _check_block_values(
        self, name: str, part: Tensor, rows: int, groups: int, dtypes: tuple[torch.dtype, ...]
    ) -> None:
        if part.dtype not in dtypes:
            _refuse(name, f"one of {[str(d).removeprefix('torch.') for d in dtypes]}", part.dtype, "convert it")
        one_for_all = part.numel() == 1 and groups == 1
        if tuple(part.shape) not in ((rows, groups), (rows,) if groups == 1 else (rows, groups)) and not one_for_all:
            _refuse(
                name, f"{[rows, groups]} for {list(self.shape)} in {self.spec.text}", list(part.shape), "reshape it"
            )


# of scales or zero points: those of more come from memory, quicker as one stream of rows than as parts of columns
_MOST_BY_COLUMNS = 1 << 16


def _moved(part: Tensor, device: torch.device | str) -> Tensor:
    """On another device, where kernels read rows; itself on its own."""
    moved = part.to(device)
    return moved if moved is part else moved.contiguous()


def _by_columns(part: Tensor | None) -> Tensor | None:
    """The same numbers, stored column by column where they are few; CUDA kernels read rows."""
    if part is None or part.dim() != 2 or part.numel() > _MOST_BY_COLUMNS or part.device.type != "cpu":
        return part
    return part.t().contiguous().t()


def canonical_shape(spec: FormatSpec, rows: int, cols: int) -> tuple[int, ...]:
    """Shape of the canonical codes of a matrix (``csrc/formats/layout.h``)."""
    return {
        "planes": (spec.bits, rows, -(-cols // 32)),
        "bytes": (rows, cols),
        "packed6": (rows, 3 * -(-cols // 4)),
        "packed4": (rows, -(-cols // 2)),
    }[spec.canonical_layout]


def canonical_bytes(spec: FormatSpec, rows: int, cols: int) -> int:
    """Bytes of the canonical codes of a matrix."""
    size = 4 if spec.canonical_layout == "planes" else 1
    for n in canonical_shape(spec, rows, cols):
        size *= n
    return size


def _check_codes(name: str, codes: Tensor, spec: FormatSpec, rows: int, cols: int) -> None:
    """Refuses codes without a finite value, and bits past the last column."""
    if codes.numel() == 0:
        return
    way_out = "the weight or the file it came from is damaged"
    if spec.canonical_layout == "planes" and cols % 32 and bool((codes[..., -1] >> cols % 32).any()):
        _refuse(name, "zero past the last column", "bits set in the padding", way_out)
    invalid = spec.invalid_codes
    if not invalid:
        return
    plain = torch.ops.lowbit.unpack(codes, spec.element, cols)
    bad = torch.isin(plain, torch.tensor(invalid, dtype=torch.uint8)).nonzero()
    if len(bad):
        row, col = bad[0].tolist()
        _refuse(name, f"numbers of {spec.element}", f"code {int(plain[row, col])} in row {row}, column {col}", way_out)
