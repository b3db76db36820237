"""The ops of lowbit: `torch.ops.lowbit.*` with names, docstrings, shapes without data (fakes) and gradients.

One file per family, in the order of the schema (`csrc/torch/schema.cpp`). Each function here calls its op and does
nothing else, so a module may as well call `torch.ops.lowbit.<name>.default` itself. Where a gradient exists, the
function takes the op's overload `autograd` when grad mode is on and an argument requires a gradient, and the default
one otherwise, so that inference does not pay for it.

Words used in every docstring:

format string  `"int4:g64"`: element format, block of columns under one scale; `"uint2:g16/uint4:g16"`: the scales are
    codes themselves; `"nvfp4"`: a named block format; `"int4:g64@tile16"`: prepacked. Elements without a block rule
    have one scale a row. Grammar: `csrc/common/spec.h`; names: `lowbit.formats`.
canonical codes  what `pack` and `quantize` return and checkpoints store: int32 planes `[bits, N, ceil(K / 32)]` for
    integers, tables and floats of 3, 5 and 7 bits; bytes `[N, ...]` for floats of 4, 6 and 8 bits.
plain codes  one code per byte, uint8 (or int8) `[N, K]`.
scale, zero  one value per block, `[N, ceil(K / block)]`, float32, bfloat16 or float16 (zero points also int32, int8,
    uint8); one value a row may be `[N]`, one for all `[1]`. An element is `scale * (code value - zero)`.

Errors are `ValueError` with one sentence, `<op>: <argument> must be <rule>, got <value>; <way out>`, raised before
anything is written. On CUDA what is wrong with values (an x that is not finite, a code of another format, an id that
is no row) is known when the kernel is over, and no call waits for that: the next call of an op that looks at values
raises it, or `lowbit.check_values()`, which waits. Ops that make a weight of codes (`pack`, `truncate`) do wait.
"""

from lowbit.ops.bitplane_gemm import bitplane_gemm
from lowbit.ops.dequant_gemm import dequant_gemm, dequant_gemm_input_grad
from lowbit.ops.gemm import gemm
from lowbit.ops.grouped_gemm import grouped_gemm, grouped_gemm_input_grad
from lowbit.ops.hadamard import hadamard
from lowbit.ops.layouts import pack, prepack, truncate, unpack, unprepack
from lowbit.ops.quantize import dequantize, embedding, quantize
from lowbit.ops.scaled_gemm import scaled_gemm
from lowbit.ops.stochastic_round import stochastic_round, stochastic_round_update_

__all__ = [
    "bitplane_gemm",
    "dequant_gemm",
    "dequant_gemm_input_grad",
    "dequantize",
    "embedding",
    "gemm",
    "grouped_gemm",
    "grouped_gemm_input_grad",
    "hadamard",
    "pack",
    "prepack",
    "quantize",
    "scaled_gemm",
    "stochastic_round",
    "stochastic_round_update_",
    "truncate",
    "unpack",
    "unprepack",
]
