"""pack, unpack, prepack, unprepack, truncate: codes from one layout to another. No arithmetic but truncation's."""

import torch
from torch import Tensor

from lowbit.ops import shapes

_ops = torch.ops.lowbit


def pack(codes: Tensor, format: str, *, layout: str = "canonical") -> Tensor:
    """Packs codes, one per byte, into the canonical layout.

    Args:
        codes: uint8 `[..., N, K]`; leading dimensions are experts. Any stride.
        format: an element format such as "int3" (no block rule).
        layout: of the result: "canonical", or the order of another library: "gptq" (int32 `[ceil(K bits / 32), N]`),
            "awq" (int32 `[K, N / 8]`), "nibble_low" / "nibble_high" (`[N, ceil(K / 2)]`, the even column in the low /
            high half of a byte), "plain" (one code per byte).

    Returns:
        int32 planes `[..., bits, N, ceil(K / 32)]`, or bytes `[..., N, ceil(K / 2)]` (floats of 4 bits),
        `[..., N, 3 ceil(K / 4)]` (6 bits), `[..., N, K]` (8 bits); bits past K are zero.

    Raises:
        ValueError: codes are not uint8, or one of them is no code of the format.
    """
    return _ops.pack.default(codes, format, layout=layout)


def unpack(packed: Tensor, format: str, k: int, *, layout: str = "canonical") -> Tensor:
    """The codes of a packed matrix, one per byte. The inverse of `pack`.

    Args:
        packed: codes in `layout`, `[..., N, ...]`.
        format: an element format.
        k: columns; packed rows are padded, so their length does not tell.
        layout: of `packed`.

    Returns:
        uint8 `[..., N, k]`.

    Raises:
        ValueError: `packed` has not the dtype or row length that format and k ask for.
    """
    return _ops.unpack.default(packed, format, k, layout=layout)


def prepack(w: Tensor, format: str, k: int, *, layout: str = "tile16") -> Tensor:
    """Codes in the order that kernels read: the `w` of the GEMM ops with "@tile16" ("@mma64") after the format.

    Args:
        w: canonical or plain codes of N x k elements, with or without a leading dimension of experts.
        format: the format string of the weight; only its element matters here.
        k: columns.
        layout: "tile16", what CPUs read, or "mma64", what tensor cores read (`csrc/formats/layout.h`). Every kernel
            computes with either, and to the same bits.

    Returns:
        uint8 `[..., ceil(N / 16), ceil(k / 4), 8 bits]`: tiles of 16 rows by 4 columns; "mma64":
        `[..., ceil(N / 16), ceil(k / 64), 128 bits]`, tiles of 64 columns. Both are padded to whole tiles: N is known
        from the weight's scales afterwards, `[N, groups]`; with scales of blocks of rows, or one for all, it must be
        a multiple of 16.
    """
    return _ops.prepack.default(w, format, k, layout=layout)


def unprepack(w: Tensor, format: str, n: int, k: int) -> Tensor:
    """The inverse of `prepack`, bit for bit.

    Args:
        w: what `prepack` returned.
        format: an element format or format string; its element and layout matter here ("int4@mma64"; without a
            layout: tile16).
        n, k: rows and columns; tiles are padded, so their shape does not tell.

    Returns:
        The canonical codes of the n x k elements.

    Raises:
        ValueError: w has not the tiles of an n x k matrix.
    """
    return _ops.unprepack.default(w, format, n, k)


def truncate(
    w: Tensor, scale: Tensor | None, zero: Tensor | None, format: str, bits: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The first `bits` planes of an integer weight, with the scale and zero point that go with them.

    Keeping the first b of p planes is `floor(code / 2^(p - b))`; the scale grows by 2^(p - b) and the zero point moves
    by half a step, so that one stored weight serves every lower width (as in Any-Precision LLM, Park et al. 2024).

    Args:
        w: canonical planes `[..., p, N, ceil(K / 32)]`, or plain codes, of a signed, unsigned or bipolar format.
        scale, zero: those of w. Scales that are codes themselves are refused, since 2^(p - b) times one of them may be
            no code: dequantize them, or where they have scales of their own (`scale2`) leave `scale` out here, keep
            them, and multiply scale2 by 2^(p - b), which is exact.
        format: the format string of w.
        bits: 1 to p.

    Returns:
        codes `[..., bits, N, ceil(K / 32)]`, scale in the shape and dtype of `scale`, zero in float32, with the half
        step in it (without a scale both are `[..., 1]`).

    Raises:
        ValueError: the format has no planes to drop, or bits is outside 1 .. p.
    """
    return _ops.truncate.default(w, scale, zero, format, bits)


@shapes.register_fake("lowbit::pack")
def _(codes: Tensor, format: str, *, layout: str = "canonical") -> Tensor:
    spec = shapes.parse("pack", format, "format")
    n, k = codes.size(-2), codes.size(-1)
    orders = {
        "plain": ([n, k], torch.uint8),
        "nibble_low": ([n, (k + 1) // 2], torch.uint8),
        "nibble_high": ([n, (k + 1) // 2], torch.uint8),
        "gptq": ([(k * spec.bits + 31) // 32, n], torch.int32),
        "awq": ([k, (n + 7) // 8], torch.int32),
    }
    size, dtype = orders.get(layout) or shapes.canonical(spec.element, n, k)
    return codes.new_empty([*codes.shape[:-2], *size], dtype=dtype)


@shapes.register_fake("lowbit::unpack")
def _(packed: Tensor, format: str, k: int, *, layout: str = "canonical") -> Tensor:
    spec = shapes.parse("unpack", format, "format")
    planes = layout == "canonical" and spec.canonical_layout == "planes"
    by_column = {"gptq": packed.size(-1), "awq": 8 * packed.size(-1)}
    n = by_column.get(layout, packed.size(-2))
    return packed.new_empty([*packed.shape[: -3 if planes else -2], n, k], dtype=torch.uint8)


@shapes.register_fake("lowbit::prepack")
def _(
    w: Tensor,
    format: str,
    k: int,
    *,
    layout: str = "tile16",
) -> Tensor:
    spec = shapes.parse("prepack", format, "format")
    tiles = shapes.tiles(layout, spec.element, w.size(-2), k)
    return w.new_empty([*shapes.batch(spec, w), *tiles], dtype=torch.uint8)


@shapes.register_fake("lowbit::unprepack")
def _(
    w: Tensor,
    format: str,
    n: int,
    k: int,
) -> Tensor:
    size, dtype = shapes.canonical(shapes.parse("unprepack", format, "format").element, n, k)
    return w.new_empty([*w.shape[:-3], *size], dtype=dtype)


@shapes.register_fake("lowbit::truncate")
def _(
    w: Tensor,
    scale: Tensor | None,
    zero: Tensor | None,
    format: str,
    bits: int,
) -> tuple[Tensor, Tensor, Tensor]:
    plain = shapes.is_plain(shapes.parse("truncate", format, "format"), w)
    codes = w.new_empty(w.shape if plain else [*w.shape[:-3], bits, *w.shape[-2:]])
    lead = w.shape[: -2 if plain else -3]
    new_scale = w.new_empty([*lead, 1], dtype=torch.float32) if scale is None else scale.new_empty(scale.shape)
    new_zero = w.new_empty((new_scale if zero is None else zero).shape, dtype=torch.float32)
    return codes, new_scale, new_zero
