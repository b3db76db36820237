"""quantize, dequantize, embedding: floats to codes and scales, and back."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lowbit.ops import shapes

_ops = torch.ops.lowbit


def quantize(
    x: Tensor,
    format: str,
    *,
    scale: Tensor | None = None,
    zero: Tensor | None = None,
    scale2: Tensor | None = None,
    table: Tensor | None = None,
    asymmetric: bool = False,
    rounding: str = "nearest",
    seed: Tensor | None = None,
    hadamard: int = 0,
    scale_dtype: torch.dtype | None = None,
    layout: str = "canonical",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Quantizes a matrix in one pass: scales from each block's range, then codes.

    Float scales are amax / (largest value of the element format); MX formats take the power of two of the OCP
    Microscaling specification v1.0; NVFP4 and other two-level formats a scale for the tensor and coded scales below it.
    Rules: `csrc/ref/quantize.h`, `csrc/formats/blocks.def`.

    Args:
        x: float32, bfloat16 or float16 `[..., N, K]`, any stride; leading dimensions are matrices of their own (a
            "tensor" scale is one for each). complex2: complex64, or pairs `[..., N, K, 2]`.
        format: a format string, as in "int4:g64", "float8_e4m3fn:b128x128", "nvfp4".
        scale, zero, scale2: static values to quantize with, which are not returned again; None: computed.
        table: float32 `[2^bits]` ascending, for the formats "table1" .. "table8".
        asymmetric: unsigned integers only: zero points, so that the range [min, max] of a block is covered.
        rounding: "nearest" (ties as the format says) or "stochastic" (needs `seed`).
        seed: int64 `[2]` = (seed, offset) of the Philox generator.
        hadamard: > 0: each block of this many columns is first transformed (orthonormal, see `hadamard`); a power of
            two up to 4096 that divides K.
        scale_dtype: of computed float scales; None: float32.
        layout: "canonical"; "plain" for one code per byte (int8 for signed and ternary integers, else uint8);
            "tile16" or "mma64" for a weight that is prepacked at once; with scales that rows share, `rows` must be a
            multiple of 16.

    Returns:
        codes, scale `[..., rows, groups]`, zero (uint8, like scale), scale2. What the format does not have, or what was
        given, is an empty tensor `[0]`. complex2 has two scales a block: `[..., 2, rows, groups]`.

    Raises:
        ValueError: a non-finite x or scale, `asymmetric` with a signed format, or an unknown rounding. On CUDA a
            non-finite x (NaN becomes 0) and a table that does not ascend are raised by a later call or
            `lowbit.check_values()`, and given scales are not looked at.
    """
    return _ops.quantize.default(
        x,
        format,
        scale=scale,
        zero=zero,
        scale2=scale2,
        table=table,
        asymmetric=asymmetric,
        rounding=rounding,
        seed=seed,
        hadamard=hadamard,
        scale_dtype=scale_dtype,
        layout=layout,
    )


def dequantize(
    w: Tensor,
    scale: Tensor | None,
    zero: Tensor | None,
    format: str,
    k: int,
    *,
    scale2: Tensor | None = None,
    table: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """The values of a quantized matrix, `scale * (code value - zero)`: `[..., N, k]`.

    Args:
        w: codes in any layout; prepacked ones need scales of shape `[N, groups]`, or of blocks of rows or one for all,
            N being a multiple of 16.
        scale, zero, scale2: as `quantize` returns them.
        format: the format string of w.
        k: columns.
        table: the values of a "table<bits>" format.
        out_dtype: float32, bfloat16 or float16; None: float32.

    Returns:
        `[..., N, k]`; complex2: `[..., N, k, 2]`, (real, imaginary) pairs as `torch.view_as_complex` takes them.

    Raises:
        ValueError: a code that is no value of the format, or a scale that is not finite (on CUDA by a later call or
            `lowbit.check_values()`; the output then follows IEEE arithmetic).
    """
    return _ops.dequantize.default(w, scale, zero, format, k, scale2=scale2, table=table, out_dtype=out_dtype)


def embedding(
    ids: Tensor,
    w: Tensor,
    scale: Tensor | None,
    zero: Tensor | None,
    format: str,
    k: int,
    *,
    scale2: Tensor | None = None,
    table: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """Rows of a quantized matrix, dequantized, as `torch.nn.functional.embedding` takes them.

    Args:
        ids: int64 or int32, any shape, each in 0 .. N - 1.
        others: as for `dequantize`.

    Returns:
        `[*ids.shape, k]`.

    Raises:
        ValueError: an id outside the matrix. On CUDA such an id gives a row of zeros, no memory is read for it, and a
            later call or `lowbit.check_values()` raises.
    """
    return _ops.embedding.default(ids, w, scale, zero, format, k, scale2=scale2, table=table, out_dtype=out_dtype)


@shapes.register_fake("lowbit::quantize")
def _(
    x: Tensor,
    format: str,
    *,
    scale: Tensor | None = None,
    zero: Tensor | None = None,
    scale2: Tensor | None = None,
    table: Tensor | None = None,
    asymmetric: bool = False,
    rounding: str = "nearest",
    seed: Tensor | None = None,
    hadamard: int = 0,
    scale_dtype: torch.dtype | None = None,
    layout: str = "canonical",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    spec = shapes.parse("quantize", format, "format")
    pairs = spec.is_complex and not x.is_complex()
    size = x.shape[:-1] if pairs else x.shape
    lead, n, k = list(size[:-2]), size[-2], size[-1]
    layout = spec.layout if layout == "canonical" else layout
    if layout == "plain":
        codes = x.new_empty(list(size), dtype=shapes.plain_dtype(spec.element))
    elif layout in shapes.TILE_COLS:
        codes = x.new_empty([*lead, *shapes.tiles(layout, spec.element, n, k)], dtype=torch.uint8)
    else:
        codes_size, dtype = shapes.canonical(spec.element, n, k)
        codes = x.new_empty([*lead, *codes_size], dtype=dtype)
    none = [x.new_empty([0], dtype=torch.float32) for _ in range(3)]
    if scale is not None:
        return codes, none[0], none[1], none[2]
    grid = (shapes.blocks(n, spec.block_rows), shapes.blocks(k, spec.block_cols))
    float_dtype = scale_dtype or torch.float32
    if spec.scale is None:
        new_scale = x.new_empty([*lead, *([2] if spec.is_complex else []), *grid], dtype=float_dtype)
    else:
        scale_size, dtype = shapes.canonical(spec.scale, *grid)
        new_scale = x.new_empty([*lead, *scale_size], dtype=dtype)
    new_zero = x.new_empty([*lead, *grid], dtype=torch.uint8) if asymmetric else none[1]
    new_scale2 = none[2]
    if spec.scale_block is not None:
        size2 = [shapes.blocks(n, b) for n, b in zip(grid, spec.scale_block, strict=True)]
        new_scale2 = x.new_empty([*lead, *size2], dtype=float_dtype)
    return codes, new_scale, new_zero, new_scale2


def _values(op: str, lead: Sequence[int], x: Tensor, k: int, format: str, out_dtype: torch.dtype | None) -> Tensor:
    spec = shapes.parse(op, format, "format")
    return x.new_empty([*lead, k, *([2] if spec.is_complex else [])], dtype=out_dtype or torch.float32)


@shapes.register_fake("lowbit::dequantize")
def _(
    w: Tensor,
    scale: Tensor | None,
    zero: Tensor | None,
    format: str,
    k: int,
    *,
    scale2: Tensor | None = None,
    table: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    spec = shapes.parse("dequantize", format, "format")
    lead = [*shapes.batch(spec, w), shapes.rows("dequantize", w, scale, spec)]
    return _values("dequantize", lead, w, k, format, out_dtype)


@shapes.register_fake("lowbit::embedding")
def _(
    ids: Tensor,
    w: Tensor,
    scale: Tensor | None,
    zero: Tensor | None,
    format: str,
    k: int,
    *,
    scale2: Tensor | None = None,
    table: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    return _values("embedding", ids.shape, w, k, format, out_dtype)
