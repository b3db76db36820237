"""Sectors of global memory and wavefronts of shared memory that the kernels bound by memory take, as the emulator
counts them, against the least there can be: rows of `counts.csv`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from cuda import counts, kernels, test_pack
from cuda.kernels import ARCHS
from cuda.test_hadamard import hadamard, signs
from cuda.test_quantize import SEED, dequantize, quantize
from cuda.test_stochastic_round import stochastic_round, update
from cuda.weights import LAYOUTS
from emu import emulator
from lowbit import ops
from torch import Tensor

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
Case = Callable[[str], object]


def draw(rows: int, cols: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(cols)).to(dtype)


def hadamards(dtype: torch.dtype) -> dict[str, Case]:
    blocks = {  # rows, columns
        16: (8, 512), 56: (8, 448), 80: (4, 1280), 96: (4, 768), 112: (4, 896), 128: (8, 1024), 160: (4, 640),
        192: (4, 768), 224: (4, 896), 344: (16, 688), 576: (4, 576), 688: (8, 688), 784: (4, 784), 800: (4, 800),
        1520: (1, 1520), 1536: (2, 1536), 1568: (2, 1568), 2048: (2, 2048), 8192: (1, 8192), 11008: (1, 11008),
        32768: (1, 32768), 65536: (1, 65536),
    }  # fmt: skip
    found: dict[str, Case] = {}
    for block, (rows, cols) in blocks.items():
        found[f"hadamard {block}"] = partial(hadamard, draw(rows, cols, dtype), block)
    found["hadamard 128 in place"] = partial(hadamard, draw(8, 1024, dtype), 128, in_place=True)
    found["hadamard 2048 in place"] = partial(hadamard, draw(2, 2048, dtype), 2048, in_place=True)
    for block in (128, 576, 2048):
        found[f"hadamard {block} of strided rows"] = partial(
            hadamard, draw(4, 4096, dtype)[::2, 64 : 64 + 2304 // block * block], block
        )
        found[f"hadamard {block} with signs"] = partial(hadamard, draw(2, block, dtype), block, sign=signs(block))
    found["hadamard 2048 with signs, transposed"] = partial(
        hadamard, draw(2, 2048, dtype), 2048, sign=signs(2048), transpose=True
    )
    return found


def quantizes(dtype: torch.dtype) -> dict[str, Case]:
    x = draw(8, 2048, dtype)
    formats = ("int4:g64", "int4:g32", "int3:g128", "int8", "uint8:row", "int4:g512", "mxfp4", "mxfp6_e2m3", "nvfp4",
               "float8_e4m3fn:tensor", "float8_e4m3fn:b128x128", "nf4:g64")  # fmt: skip
    found: dict[str, Case] = {f"quantize {it}": partial(quantize, x, it) for it in formats}
    found["quantize int4:g64 stochastic"] = partial(quantize, x, "int4:g64", rounding="stochastic", seed=SEED)
    found["quantize int8 plain"] = partial(quantize, x, "int8", layout="plain")
    for size in (16, 128, 1024):
        found[f"quantize int4:g64, hadamard {size}"] = partial(
            quantize, x, "int4:tensor" if size > 64 else "int4:g64", hadamard=size
        )
    found["quantize int8, hadamard 128"] = partial(quantize, x, "int8", hadamard=128)
    found["quantize int4:g64 of strided rows"] = partial(quantize, draw(8, 4096, dtype)[::2, 64:2112], "int4:g64")
    found["quantize complex2:g256"] = partial(quantize, draw(8, 2048, dtype).view(8, 1024, 2), "complex2:g256")
    return found


def dequantizes(dtype: torch.dtype) -> dict[str, Case]:
    found: dict[str, Case] = {}
    formats = (
        "int4:g64",
        "int3:g128",
        "int8",
        "mxfp4",
        "mxfp6_e2m3",
        "mxfp8_e4m3",
        "nvfp4",
        "nf4:g64",
        "complex2:g256",
    )
    for it in formats:
        x = draw(8, 2048, torch.float32)
        x = x.view(8, 1024, 2) if it.startswith("complex") else x
        codes, scale, _, scale2 = ops.quantize(x, it)
        k = x.shape[1]
        found[f"dequantize {it}"] = partial(
            lambda codes, it, k, scale, scale2, arch: dequantize(
                codes, it, k, 8, dtype, arch, scale=scale, scale2=scale2
            ), codes, it, k, scale, scale2,
        )  # fmt: skip
    return found


def stochastic_rounds(dtype: torch.dtype) -> dict[str, Case]:
    x = draw(8, 2048, dtype)
    found: dict[str, Case] = {
        f"stochastic_round {it}": partial(stochastic_round, x, it) for it in ("int4", "float8_e4m3fn", "bfloat16")
    }
    for it in ("int4:g64", "int8", "float8_e4m3fn:tensor"):
        for rescale in (False, True):
            found[f"update {it}{', rescaled' if rescale else ''}"] = partial(
                lambda it, rescale, arch: update(x.float(), 0.1 * x, it, rescale=rescale, arch=arch), it, rescale
            )
    return found


def packs() -> dict[str, Case]:
    found: dict[str, Case] = {}
    shape = (32, 1024)
    for name in ("int4", "int3", "int8", "float4_e2m1fn", "float6_e3m2fn"):
        codes = test_pack.random_codes(name, *shape)
        packed = ops.pack(codes, name)
        calls = {"pack": (codes, "plain", packed, -1), "unpack": (packed, "canonical", codes, -1)}
        for layout in ("tile16", "mma64"):
            tiles = ops.prepack(packed, name, shape[1], layout=layout)
            calls[f"prepack {layout}"] = (packed, "canonical", tiles, LAYOUTS[layout])
            calls[f"unprepack {layout}"] = (tiles, layout, packed)
        for call, (given, layout, like, *more) in calls.items():
            op = call.split(" ")[0]
            found[f"{call} {name}"] = partial(_pack, op, given, name, layout, shape, like, *more)
    return found


def _pack(op: str, given: Tensor, name: str, layout: str, shape: tuple[int, int], like: Tensor, *rest: object) -> None:
    *more, arch = rest
    with kernels.on(str(arch)):
        test_pack.run(op, given, name, layout, shape, like, *more)


CASES = {
    f"{case}, {name}": run
    for name, dtype in DTYPES.items()
    for family in (hadamards, quantizes, dequantizes, stochastic_rounds)
    for case, run in family(dtype).items()
} | packs()
RUNS = [(case, arch) for case in CASES for arch in ARCHS]


@pytest.mark.parametrize(("case", "arch"), RUNS)
def test_accesses(case: str, arch: str) -> None:
    # what one call counts lies between its start, which clears the counts, and its end
    with emulator.listed_instructions(), kernels.once():
        CASES[case](arch)
        found = counts.Counts.of(emulator.counts())
    counts.check((case, arch), found)
