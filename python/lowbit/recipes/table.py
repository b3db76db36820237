"""The recipes as data: one row each.

Groups are of 64 or 32 input features, which divide the widths of the common models. Rows that differ only in their
rounding (``w4a16-g64`` and ``w4a16-gptq-g64``) have the same static grid. The head and the embedding are quantized
like every other weight, so that the width in the name is the width of all of them; in tied models they share one weight
and its rounding errors reach every token twice, which is why the ``-head8`` rows keep 8 bits there.
"""

from __future__ import annotations

from lowbit.config import GPTQ, ActivationConfig, ClipSearch, HadamardRotation, Recipe, WeightConfig

_INT8 = WeightConfig("int8:row")
_INT8_INPUT = ActivationConfig("int8:g64")
_INT4_INPUT = ActivationConfig("int4:g64")
_UINT4 = WeightConfig("uint4:g64", asymmetric=True)
_UINT3 = WeightConfig("uint3:g64", asymmetric=True)
_UINT2 = WeightConfig("uint2:g32", asymmetric=True)
_FP8 = WeightConfig("float8_e4m3fn:row")
# NVFP4 but for the outer scale: one a token in place of one for all, so that a token's result is its own
_NVFP4_INPUT = ActivationConfig("float4_e2m1fn:g16/float8_e4m3fn:row")
_FP8_INPUT = ActivationConfig("float8_e4m3fn:row")

TABLE = (
    Recipe("w8a16", "8-bit weights, one scale a row", _INT8),
    Recipe("w4a16-g64", "4-bit weights in groups of 64, rounded to nearest", _UINT4, grid=ClipSearch()),
    Recipe(
        "w4a16-gptq-g64",
        "4-bit weights in groups of 64, GPTQ",
        _UINT4,
        grid=ClipSearch(),
        rounding=GPTQ(),
    ),
    Recipe(
        "w4a16-gptq-g64-head8",
        "4-bit weights in groups of 64, GPTQ, 8-bit head and embedding",
        _UINT4,
        grid=ClipSearch(),
        rounding=GPTQ(),
        head=_INT8,
    ),
    Recipe("w4a16-nf4-g64", "NF4 weights in groups of 64", WeightConfig("nf4:g64")),
    Recipe("w3a16-g64", "3-bit weights in groups of 64, rounded to nearest", _UINT3, grid=ClipSearch()),
    Recipe(
        "w3a16-gptq-g64",
        "3-bit weights in groups of 64, GPTQ",
        _UINT3,
        grid=ClipSearch(),
        rounding=GPTQ(),
    ),
    Recipe(
        "w3a16-gptq-g64-head8",
        "3-bit weights in groups of 64, GPTQ, 8-bit head and embedding",
        _UINT3,
        grid=ClipSearch(),
        rounding=GPTQ(),
        head=_INT8,
    ),
    Recipe("w2a16-g32", "2-bit weights in groups of 32, rounded to nearest", _UINT2, grid=ClipSearch()),
    Recipe(
        "w2a16-gptq-g32",
        "2-bit weights in groups of 32, GPTQ",
        _UINT2,
        grid=ClipSearch(),
        rounding=GPTQ(),
    ),
    Recipe(
        "w2a16-gptq-g32-head8",
        "2-bit weights in groups of 32, GPTQ, 8-bit head and embedding",
        _UINT2,
        grid=ClipSearch(),
        rounding=GPTQ(),
        head=_INT8,
    ),
    Recipe(
        "w8a8",
        "8-bit weights and activations",
        _INT8,
        _INT8_INPUT,
    ),
    Recipe(
        "w4a8",
        "4-bit weights in groups of 64, 8-bit activations",
        _UINT4,
        _INT8_INPUT,
        grid=ClipSearch(),
    ),
    Recipe(
        "w4a8-gptq",
        "4-bit GPTQ weights in groups of 64, 8-bit activations",
        _UINT4,
        _INT8_INPUT,
        grid=ClipSearch(),
        rounding=GPTQ(),
    ),
    Recipe(
        "w2a8-gptq-g32",
        "2-bit GPTQ weights in groups of 32, kept as bit planes, 8-bit activations",
        _UINT2,
        _INT8_INPUT,
        grid=ClipSearch(),
        rounding=GPTQ(),
    ),
    Recipe(
        "w4a4",
        "4-bit weights and activations, not rotated",
        _UINT4,
        _INT4_INPUT,
        grid=ClipSearch(),
    ),
    Recipe(
        "w4a4-hadamard",
        "4-bit weights and activations after a Hadamard rotation",
        _UINT4,
        _INT4_INPUT,
        grid=ClipSearch(),
        transform=HadamardRotation(),
    ),
    Recipe(
        "w4a4-hadamard-gptq",
        "4-bit GPTQ weights and 4-bit activations after a Hadamard rotation",
        _UINT4,
        _INT4_INPUT,
        grid=ClipSearch(),
        rounding=GPTQ(),
        transform=HadamardRotation(),
    ),
    Recipe("w8a8-fp8", "FP8 (E4M3) weights and activations", _FP8, _FP8_INPUT),
    Recipe(
        "w8a8-mxfp8",
        "MXFP8 (E4M3) weights and activations",
        WeightConfig("mxfp8_e4m3"),
        ActivationConfig("mxfp8_e4m3"),
    ),
    Recipe("w4a16-mxfp4", "MXFP4 weights", WeightConfig("mxfp4")),
    Recipe(
        "w4a4-mxfp4",
        "MXFP4 weights and activations",
        WeightConfig("mxfp4"),
        ActivationConfig("mxfp4"),
    ),
    Recipe("w4a16-nvfp4", "NVFP4 weights", WeightConfig("nvfp4")),
    Recipe(
        "w4a4-nvfp4",
        "NVFP4 weights and activations",
        WeightConfig("nvfp4"),
        _NVFP4_INPUT,
    ),
)
