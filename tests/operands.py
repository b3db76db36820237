"""Random quantized matrices for the GEMM tests: the tensors that an op takes beside the expanded matrix of the oracle.
Codes, layouts and scales are made in NumPy; nothing of lowbit takes part but prepack."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from oracle import formats, layouts
from oracle.gemm import Matrix

NAMED = {  # OCP MX v1.0 and NVIDIA's formats: element, block, scale, tensor scale, unit
    "mxfp8_e4m3": ("float8_e4m3fn", 32, "float8_e8m0fnu", False, 1.0),
    "mxfp8_e5m2": ("float8_e5m2", 32, "float8_e8m0fnu", False, 1.0),
    "mxfp6_e2m3": ("float6_e2m3fn", 32, "float8_e8m0fnu", False, 1.0),
    "mxfp6_e3m2": ("float6_e3m2fn", 32, "float8_e8m0fnu", False, 1.0),
    "mxfp4": ("float4_e2m1fn", 32, "float8_e8m0fnu", False, 1.0),
    "mxint8": ("int8", 32, "float8_e8m0fnu", False, 2.0**-6),
    "nvfp4": ("float4_e2m1fn", 16, "float8_e4m3fn", True, 1.0),
    "nvint4": ("int4", 16, "float8_e4m3fn", True, 1.0),
}


@dataclass(frozen=True)
class Operand:
    """`format` and the tensors as the ops take them, `matrix` as the oracle does."""

    format: str
    codes: torch.Tensor
    scale: torch.Tensor | None
    zero: torch.Tensor | None
    scale2: torch.Tensor | None
    table: torch.Tensor | None
    matrix: Matrix


@dataclass(frozen=True)
class Spec:
    element: str
    block: tuple[int, int]  # rows, columns; 0: all
    scale: str | None = None
    scale_block: tuple[int, int] | None = None
    unit: float = 1.0


def parse_block(text: str) -> tuple[int, int]:
    if text in ("tensor", "row"):
        return (0 if text == "tensor" else 1, 0)
    if text[0] == "g":
        return 1, int(text[1:])
    rows, cols = text[1:].split("x")
    return int(rows), int(cols)


def parse(text: str) -> Spec:
    text = text.split("@")[0]
    if text in NAMED:
        element, block, scale, tensor, unit = NAMED[text]
        return Spec(element, (1, block), scale, (0, 0) if tensor else None, unit)
    element, _, scale = text.partition("/")
    element, _, block = element.partition(":")
    scale, _, scale_block = scale.partition(":")
    return Spec(element, parse_block(block or "row"), scale or None, parse_block(scale_block) if scale_block else None)


def int8_shift(element: str) -> int | None:
    """The least s for which every value * 2**s is an integer of int8 (or of 8 bits, for integers)."""
    if element == "nf4" or element.startswith("table"):
        return None
    values = formats.values(element)
    for shift in range(16):
        scaled = values * 2.0**shift
        if np.all(np.isfinite(scaled)) and np.all(scaled == np.round(scaled)):
            return shift if np.abs(scaled).max() <= (127 if element.startswith("float") else 255) else None
    return None


def random_codes(rng: np.random.Generator, element: str, shape: tuple[int, ...]) -> np.ndarray:
    """Every code that is a finite value."""
    codes = np.arange(2 ** formats.bits_of(element))
    if not element.startswith("table"):
        codes = codes[[formats.is_code(element, int(c)) for c in codes]]
        codes = codes[np.isfinite(formats.values(element)[codes])]
    return rng.choice(codes, shape).astype(np.uint8)


def canonical(element: str, codes: np.ndarray) -> torch.Tensor:
    bits = formats.bits_of(element)
    if not element.startswith("float") or bits not in (4, 6, 8):
        return torch.from_numpy(layouts.planes(codes, bits))
    return torch.from_numpy({4: layouts.nibbles, 6: layouts.packed6, 8: lambda c: c}[bits](codes).copy())


def expand(blocks: np.ndarray, block: tuple[int, int], rows: int, cols: int) -> np.ndarray:
    """One value per block to one per element."""
    i = np.arange(rows) // block[0] if block[0] else np.zeros(rows, int)
    j = np.arange(cols) // block[1] if block[1] else np.zeros(cols, int)
    return blocks[i[:, None], j[None, :]]


def block_count(n: int, block: int) -> int:
    return -(-n // block) if block else 1


def as_layout(element: str, codes: np.ndarray, layout: str) -> torch.Tensor:
    if layout == "plain":
        return torch.from_numpy(codes)
    packed = canonical(element, codes)
    return packed if layout == "canonical" else torch.ops.lowbit.prepack(packed, element, codes.shape[1], layout=layout)


def operand(
    rng: np.random.Generator,
    format: str,
    rows: int,
    k: int,
    *,
    layout: str = "canonical",
    scaled: bool = True,
    zero: str | None = None,
    scale_dtype: torch.dtype = torch.float32,
) -> Operand:
    """A random matrix. `zero`: None, "int" or "float"; `scaled` False leaves float scales out."""
    spec = parse(format)
    codes = random_codes(rng, spec.element, (rows, k))
    table = torch.from_numpy(np.sort(rng.standard_normal(2 ** formats.bits_of(spec.element))).astype(np.float32))
    is_table = spec.element.startswith("table")
    values = (table.numpy() if is_table else formats.values(spec.element))[codes].astype(np.float64)
    shape = (block_count(rows, spec.block[0]), block_count(k, spec.block[1]))
    scale = scale2 = zeros = None
    scale_values = zero_values = None
    if spec.scale:
        scale_codes = random_codes(rng, spec.scale, shape)
        scale_values = formats.values(spec.scale)
        if spec.scale == "float8_e8m0fnu":
            scale_codes = rng.integers(120, 134, shape).astype(np.uint8)
        scale = canonical(spec.scale, scale_codes)
        scale_values = scale_values[scale_codes].astype(np.float32)
        if spec.scale_block is not None:
            second = tuple(block_count(n, b) for n, b in zip(shape, spec.scale_block, strict=True))
            scale2 = torch.from_numpy(rng.uniform(0.01, 1, second).astype(np.float32))
            scale_values = scale_values * expand(scale2.numpy(), spec.scale_block, *shape)
        scale_values = scale_values * np.float32(spec.unit)
    elif scaled:
        scale = torch.from_numpy(rng.uniform(0.01, 1, shape).astype(np.float32)).to(scale_dtype)
        scale_values = scale.float().numpy()
    if zero == "int":
        zero_values = rng.integers(int(values.min(initial=0)), int(values.max(initial=0)) + 1, shape)
        zeros = torch.from_numpy(zero_values.astype(np.int32))
    elif zero == "float":
        zeros = torch.from_numpy(rng.uniform(values.min(initial=0), values.max(initial=0), shape).astype(np.float32))
        zero_values = zeros.numpy()
    blocks = shape[1] > 1 and (scale is not None or zeros is not None)
    return Operand(
        format + ("" if layout == "canonical" else f"@{layout}"),
        as_layout(spec.element, codes, layout),
        scale,
        zeros,
        scale2,
        table if is_table else None,
        Matrix(
            values,
            int8_shift(spec.element),
            None if scale_values is None else expand(scale_values, spec.block, rows, k),
            None if zero_values is None else expand(zero_values, spec.block, rows, k),
            frozenset(range(spec.block[1], k, spec.block[1])) if blocks else frozenset(),
            scale is not None and shape[1] > 1,
        ),
    )


def complex_operand(rng: np.random.Generator, block: str, rows: int, k: int, *, pair: bool) -> Operand:
    """complex2 weights; the matrix is the real one of twice the rows and columns. `pair`: a scale for each class."""
    spec = parse(f"complex2:{block}")
    codes = random_codes(rng, "complex2", (rows, k))
    values = formats.values("complex2")[codes]
    shape = (2 if pair else 1, block_count(rows, spec.block[0]), block_count(k, spec.block[1]))
    scale = rng.uniform(0.01, 1, shape).astype(np.float32)
    re, im = (expand(s, spec.block, rows, k) for s in (scale[0], scale[-1]))
    cuts = {k} | {c + half for c in range(spec.block[1] or k, k, spec.block[1] or k) for half in (0, k)}
    return Operand(
        spec.element + ":" + block,
        canonical("complex2", codes),
        torch.from_numpy(scale if pair else scale[0]),
        None,
        None,
        None,
        Matrix(
            np.block([[values.real, -values.imag], [values.imag, values.real]]),
            0,
            np.block([[re, im], [im, re]]),
            None,
            frozenset(cuts),
            True,
        ),
    )


def with_outliers(rng: np.random.Generator, w: Operand, count: int, dtype: torch.dtype) -> tuple[Operand, dict]:
    """`w` with `count` outliers, and their arguments (compressed rows)."""
    rows, k = w.matrix.values.shape
    row = np.sort(rng.integers(0, rows, count))
    col = rng.integers(0, k, count)
    value = torch.from_numpy(rng.standard_normal(count).astype(np.float32)).to(dtype)
    listed = list(zip(row.tolist(), col.tolist(), value.double().tolist(), strict=True))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))])
    arguments = {
        "outlier_offsets": torch.from_numpy(offsets.astype(np.int32)),
        "outlier_cols": torch.from_numpy(col.astype(np.int32)),
        "outlier_values": value,
    }
    return replace(w, matrix=replace(w.matrix, outliers=listed)), arguments


def mixed(
    rng: np.random.Generator, element: str, n: int, k: int, group: int, high: list[int], layout: str
) -> tuple[Operand, dict]:
    """A matrix whose groups `high` have twice the bits, and the arguments that hold these. The low and the high columns
    are operands of their own, without scales."""
    wide = element.rstrip("0123456789") + str(2 * int(element[-1]))
    groups = -(-k // group)
    column = np.arange(k) // group
    is_high = np.isin(column, high)
    low_part = operand(rng, f"{element}:g{group}", n, int((~is_high).sum()), layout=layout, scaled=False)
    high_part = operand(rng, f"{wide}:g{group}", n, int(is_high.sum()), layout=layout, scaled=False)
    scale = rng.uniform(0.01, 1, (n, groups)).astype(np.float32)
    values = np.zeros((n, k))
    values[:, ~is_high], values[:, is_high] = low_part.matrix.values, high_part.matrix.values
    matrix = Matrix(values, 0, scale[:, column], None, frozenset(range(group, k, group)), True)
    w = replace(low_part, scale=torch.from_numpy(scale), matrix=matrix)
    return w, {"w_high": high_part.codes, "high_groups": torch.tensor(high, dtype=torch.int32)}
