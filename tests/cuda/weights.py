"""Operands of the GEMM tests as the C entry points take them (csrc/cuda/c_api/operands.h), in device memory."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_double, c_int64, c_void_p

import lowbit._C as _C
import torch
from cuda import kernels
from lowbit.spec import FormatSpec
from operands import Operand
from torch import Tensor

LAYOUTS = {"canonical": 0, "plain": 1, "tile16": 2, "mma64": 3}
TILED = ("tile16", "mma64")
FORMATS = {f["name"]: f for f in _C.element_formats()}


class CCodes(Structure):
    _fields_ = [
        ("data", c_void_p), ("format", c_char_p), ("codebook", c_void_p),
        *((n, c_int64) for n in ("layout", "rows", "cols", "row_stride", "plane_stride")),
    ]  # fmt: skip


class CBlockValues(Structure):
    pass


CBlockValues._fields_ = [
    ("data", c_void_p), ("dtype", c_int64), ("codes", CCodes),
    *((n, c_int64) for n in ("row_stride", "col_stride", "block_rows", "block_cols")), ("unit", c_double),
    ("second", POINTER(CBlockValues)),
]  # fmt: skip


class CQuantized(Structure):
    _fields_ = [
        ("codes", CCodes), ("scale", CBlockValues), ("scale_imaginary", CBlockValues), ("zero", CBlockValues),
        ("offsets", c_void_p), ("cols", c_void_p), ("values", c_void_p), ("values_dtype", c_int64), ("high", CCodes),
        ("high_groups", c_void_p), *((n, c_int64) for n in ("high_count", "group", "all_cols")),
    ]  # fmt: skip


class CGrouped(Structure):
    _fields_ = [
        ("x", kernels.CMatrix), ("xq", POINTER(CQuantized)), ("w", CQuantized), ("m", c_int64), ("n", c_int64),
        ("k", c_int64), ("bias", c_void_p), ("bias_dtype", c_int64), ("out", kernels.CMatrix), ("offs", c_void_p),
        *((n, c_int64) for n in ("experts", "w_step", "w_scale_step", "w_second_step", "w_zero_step", "bias_step")),
    ]  # fmt: skip


def codes(t: kernels.Device, name: str, layout: str, rows: int, cols: int) -> CCodes:
    """A view of the codes of one matrix; strides are those of the tensor's last dimensions."""
    like = t.like
    planes = layout == "canonical" and FORMATS[name]["layout"] == "planes"
    row, plane = (0, 0) if layout in TILED else (like.stride(-2), like.stride(-3) if planes else 0)
    return CCodes(t.pointer, name.encode(), None, LAYOUTS[layout], rows, cols, row, plane)


class Weight:
    """An operand (or a stack of them, one an expert: tensors with a leading dimension) on the device."""

    def __init__(self, w: Operand, rows: int, cols: int, extras: dict[str, Tensor] | None = None) -> None:
        self.kept: list[object] = []
        spec = FormatSpec.parse(w.format)
        layout = spec.layout
        if layout == "canonical" and spec.canonical_layout == "planes" and w.codes.dtype != torch.int32:
            layout = "plain"
        extras = extras or {}
        high = extras.get("w_high")
        group = spec.block_cols
        wide = 0
        if high is not None:  # the last group may be cut
            wide = sum(min(group, cols - g * group) for g in extras["high_groups"].tolist())
        own = cols - wide
        self.c = CQuantized(codes=codes(self._device(w.codes), spec.element, layout, rows, own), all_cols=cols)
        if w.table is not None:
            self.c.codes.codebook = self._device(w.table).pointer
        block = spec.block_rows, spec.block_cols
        if w.scale is not None:
            scales = [w.scale]
            if spec.is_complex and w.scale.dim() == 3:
                scales = [w.scale[0].contiguous(), w.scale[1].contiguous()]
            for field, scale in zip(("scale", "scale_imaginary"), scales, strict=False):
                setattr(self.c, field, self._values(scale, spec.scale, block, rows, cols, spec.unit))
            if w.scale2 is not None:
                second = self._values(w.scale2, None, spec.scale_block, *spec.scale_shape(rows, cols), 1.0)
                self.kept.append(second)
                self.c.scale.second = ctypes.pointer(second)
        if w.zero is not None:
            self.c.zero = self._values(w.zero, None, block, rows, cols, 1.0)
        if high is not None:
            name = spec.element.rstrip("0123456789") + str(2 * spec.bits)
            self.c.high = codes(self._device(high), name, layout, rows, wide)
            self.c.high_groups = self._device(extras["high_groups"]).pointer
            self.c.high_count, self.c.group = len(extras["high_groups"]), group
        if "outlier_offsets" in extras:
            self.c.offsets = self._device(extras["outlier_offsets"]).pointer
            self.c.cols = self._device(extras["outlier_cols"]).pointer
            self.c.values = self._device(extras["outlier_values"]).pointer
            self.c.values_dtype = kernels.DTYPES[extras["outlier_values"].dtype]

    def _device(self, t: Tensor) -> kernels.Device:
        self.kept.append(kernels.Device(t))
        return self.kept[-1]

    def _values(self, t: Tensor, name: str | None, block: tuple[int, int], rows: int, cols: int, unit: float):
        """Values of a block rule; one block along an axis is written as 0, as the bindings do."""
        count = [1 if b == 0 else -(-n // b) for n, b in zip((rows, cols), block, strict=True)]
        normal = [0 if n == 1 else b for n, b in zip(count, block, strict=True)]
        on_device = self._device(t)
        if name is not None:
            planes = FORMATS[name]["layout"] == "planes" and t.dtype == torch.int32
            layout = "canonical" if planes or FORMATS[name]["layout"] != "planes" else "plain"
            return CBlockValues(None, 0, codes(on_device, name, layout, *count), 0, 0, *normal, unit)
        return CBlockValues(
            on_device.pointer, kernels.DTYPES[t.dtype], CCodes(), t.stride(-2), t.stride(-1), *normal, unit
        )
