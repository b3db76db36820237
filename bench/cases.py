"""What the suite measures: the rows of the table of goals. The quick selection has every kind of row, on few shapes."""

from collections.abc import Iterator
from dataclasses import dataclass

SHAPES = ((4096, 4096), (11008, 4096), (4096, 11008), (576, 1536), (1000, 1504))
ROWS = (1, 16, 128, 512)
GROUPS = ("row", "g128", "g64", "g32")
FLOATS = ("float8_e4m3fn:row", "float6_e2m3fn:row", "float4_e2m1fn:g32", "nf4:g64")
BLOCKS = ("mxfp8_e4m3", "mxfp6_e2m3", "mxfp4", "mxint8", "nvfp4", "nvint4")
# weight and activation of few bits, beside the same weight with int8 activations
FEW_BITS = (
    ("int2:row", "int2:row"),
    ("bipolar1:row", "bipolar1:row"),
    ("int4:row", "int4:row"),
    ("ternary:row", "int8:row"),
)
SCALED = (
    ("float8_e4m3fn:row", "float8_e4m3fn:row"),
    ("float8_e4m3fn:b128x128", "float8_e4m3fn:g128"),
    *((block, block) for block in BLOCKS),
)
TRANSFORMS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 576, 1536, 5120, 11008, 13824, 14336)
ROUNDED = ("bfloat16", "float8_e4m3fn", "int8")


def integer(bits: int) -> str:
    """The signed integers of a width; of one bit -1 and 1."""
    return "bipolar1" if bits == 1 else f"int{bits}"


CODECS = (
    *(f"{integer(bits)}:g128" for bits in range(8, 0, -1)),
    "float8_e4m3fn:row",
    "float4_e2m1fn:g32",
    "nf4:g64",
    *BLOCKS,
)


@dataclass(frozen=True)
class Product:
    """Rows of one weight: each M with each activation."""

    n: int
    k: int
    weight: str
    activations: tuple[str, ...]
    rows: tuple[int, ...]


def products(full: bool) -> Iterator[Product]:
    """Those of one shape follow each other, since the dense weight is made once."""
    for n, k in SHAPES:
        whole = full or (n, k) == SHAPES[0]
        rows = ROWS if whole else (1, 128)
        for bits in range(8, 0, -1) if whole else (8, 4, 3, 2, 1):
            for group in GROUPS if full or (whole and bits == 4) else ("g128",):
                wide: tuple[str, ...] = ("int8:row",)
                if full or (whole and bits == 4):
                    wide += ("bf16", "fp16", "fp32") if full or group == "g128" else ("bf16",)
                rule = group if group == "row" or k % int(group[1:]) == 0 else "row"
                yield Product(n, k, f"{integer(bits)}:{rule}", wide, rows)
        for weight in ("ternary:row", *FLOATS, *BLOCKS) if full else ("ternary:row", *FLOATS, "mxfp4", "nvfp4"):
            if whole:
                kinds = ("int8:row",) if weight == "ternary:row" else ("bf16", "fp32") if full else ("bf16",)
                yield Product(n, k, weight, kinds, rows)
        if whole:
            for weight, activation in (*FEW_BITS, *SCALED):
                yield Product(n, k, weight, (activation,), rows if full else (1, 512))


def transforms(full: bool) -> tuple[tuple[int, str], ...]:
    sizes = TRANSFORMS if full else (64, 128, 1024, 4096, 16384, 1536, 5120, 11008, 14336)
    return tuple((n, dtype) for n in sizes for dtype in ("float32", "bfloat16"))


def codecs(full: bool) -> tuple[str, ...]:
    return (
        CODECS
        if full
        else ("int8:g128", "int4:g128", "int3:g128", "bipolar1:g128", "float8_e4m3fn:row", "nf4:g64", "mxfp4", "nvfp4")
    )
