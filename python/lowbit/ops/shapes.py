"""What the fakes share: shapes of packed tensors, from tensor shapes and (symbolic) integers alone, and one device."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

import lowbit._C as _C
from lowbit.spec import FormatSpec

_ELEMENTS = {row["name"]: row for row in _C.element_formats()}

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
TILE_ROWS = 16
TILE_COLS = {"tile16": 4, "mma64": 64}  # of the tiled layouts, formats/layout.h
Fake = TypeVar("Fake", bound=Callable[..., Any])


def register_fake(name: str) -> Callable[[Fake], Fake]:
    """torch.library.register_fake for `name`, with the check that all tensors are on one device. Where one is on "meta"
    the fake answers for the others too, and would give memory that nothing was written to."""

    def wrap(fake: Fake) -> Fake:
        names = tuple(inspect.signature(fake).parameters)

        @functools.wraps(fake)
        def checked(*args: Any, **kwargs: Any) -> Any:
            given = {**dict(zip(names, args, strict=False)), **kwargs}
            first: tuple[str, torch.device] | None = None
            for argument, value in given.items():
                if not isinstance(value, Tensor):
                    continue
                first = first or (argument, value.device)
                if value.device != first[1]:
                    op = name.removeprefix("lowbit::").removesuffix(".autograd").removesuffix(".out")
                    raise ValueError(
                        f"{op}: {argument} must be on the device of {first[0]}, {first[1]}, got {value.device}; "
                        "move it with .to()"
                    )
            return fake(*args, **kwargs)

        torch.library.register_fake(name)(checked)
        return fake

    return wrap


def parse(op: str, text: str, argument: str = "w_format") -> FormatSpec:
    return FormatSpec.parse(text, argument, op)


def blocks(n: int, block: int) -> int:
    """Blocks along an axis of `n` elements."""
    return 1 if block == 0 else (n + block - 1) // block


def canonical(element: str, rows: int, cols: int) -> tuple[list[int], torch.dtype]:
    """Shape and dtype of the canonical codes of rows x cols elements."""
    row = _ELEMENTS[element]
    if row["layout"] == "planes":
        return [row["bits"], rows, (cols + 31) // 32], torch.int32
    width = {"bytes": cols, "packed6": (cols + 3) // 4 * 3, "packed4": (cols + 1) // 2}
    return [rows, width[row["layout"]]], torch.uint8


def tiles(layout: str, element: str, rows: int, cols: int) -> list[int]:
    """Shape of the tiled codes of rows x cols elements."""
    if layout not in TILE_COLS:
        raise ValueError(
            f'prepack: layout must be "tile16" or "mma64", got "{layout}"; the first is for CPUs, the second for '
            "tensor cores"
        )
    width = TILE_COLS[layout]
    return [blocks(rows, TILE_ROWS), blocks(cols, width), TILE_ROWS * width // 8 * _ELEMENTS[element]["bits"]]


def plain_dtype(element: str) -> torch.dtype:
    """The dtype of one code per byte."""
    return torch.int8 if _ELEMENTS[element]["kind"] in ("signed", "ternary") else torch.uint8


def is_plain(spec: FormatSpec, codes: Tensor) -> bool:
    """Whether `codes` has one code per byte."""
    if spec.layout != "canonical":
        return spec.layout == "plain"
    return spec.canonical_layout == "planes" and codes.dtype != torch.int32


def batch(spec: FormatSpec, codes: Tensor) -> list[int]:
    """The leading dimensions (experts) of codes."""
    planes = spec.canonical_layout == "planes" and not is_plain(spec, codes)
    return list(codes.shape[: -3 if planes or spec.layout in TILE_COLS else -2])


def rows(op: str, codes: Tensor, scale: Tensor | None, spec: FormatSpec, name: str = "w") -> int:
    """Rows of a code matrix. Tiles are padded to 16 rows: there the scales tell, or the matrix must fill them."""
    if spec.layout not in TILE_COLS:
        return codes.size(-2)
    if spec.block_rows != 1:
        return codes.size(-3) * TILE_ROWS
    if scale is None or scale.dim() < 2:
        got = "None" if scale is None else str(list(scale.shape))
        raise ValueError(
            f"{op}: {name}_scale must be [rows, groups] when {name} is prepacked (it tells the rows), got {got}; "
            "expand a tensor scale to [rows, 1]"
        )
    return scale.size(-2)


def product(op: str, lead: list[int], w: Tensor, w_scale: Tensor | None, w_format: str) -> list[int]:
    """Shape of x w^T: `lead`, then the rows of w, twice for complex weights (real parts, then imaginary parts)."""
    spec = parse(op, w_format)
    n = rows(op, w, w_scale, spec)
    return [*lead, 2 * n if spec.is_complex else n]


def lead(op: str, x: Tensor, x_format: str | None) -> list[int]:
    """The dimensions of activations before K: of a float tensor, or of codes in any layout."""
    if x_format is None or x.dtype in FLOATS:
        return list(x.shape[:-1])
    planes = parse(op, x_format, "x_format").canonical_layout == "planes" and x.dtype == torch.int32
    return [*x.shape[:-3], x.size(-2)] if planes else list(x.shape[:-1])


def columns(op: str, x: Tensor, w_format: str) -> int:
    """K of a weight, from float activations."""
    return x.size(-1) // 2 if parse(op, w_format).is_complex else x.size(-1)


def out_dtype(x: Tensor) -> torch.dtype:
    """What a GEMM returns when nothing is asked: floats keep their dtype, codes give float32."""
    return x.dtype if x.dtype in FLOATS else torch.float32
