"""Calls of every op for the CUDA binding: those that tests/ops names, the ops of one tensor, and the same with tensors
of other strides and with no rows."""

from __future__ import annotations

from typing import Any

import lowbit
import torch
from ops.test_devices import CALLS as OF_TENSORS
from torch import Tensor

Given = dict[str, Any]

CODES = torch.randint(16, (6, 70), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
PACKED = lowbit.ops.pack(CODES, "int4")
CALLS: dict[str, Given] = {
    **OF_TENSORS,
    "pack.default": {"codes": CODES, "format": "int4"},
    "unpack.default": {"packed": PACKED, "format": "int4", "k": 70},
    "prepack.default": {"w": PACKED, "format": "int4", "k": 70, "layout": "mma64"},
    "unprepack.default": {
        "w": lowbit.ops.prepack(PACKED, "int4", 70, layout="mma64"), "format": "int4@mma64", "n": 6, "k": 70,
    },
}  # fmt: skip
# sums of floats, whose order is that of the tensor cores
FLOAT = {
    "gemm.default", "gemm.out", "gemm.autograd", "dequant_gemm.default", "dequant_gemm_input_grad.default",
    "grouped_gemm.default", "grouped_gemm_input_grad.default", "hadamard.default", "hadamard.out", "hadamard.autograd",
}  # fmt: skip
# tensors that have a row for each row of the result, and the dimension of the rows
ROWS = {
    "gemm": {"x": 0, "out": 0}, "dequant_gemm": {"x": 0}, "dequant_gemm_input_grad": {"dy": 0},
    "scaled_gemm": {"x": 1, "x_scale": 0}, "bitplane_gemm": {"x": 1, "x_scale": 0}, "grouped_gemm": {"x": 0},
    "grouped_gemm_input_grad": {"dy": 0}, "quantize": {"x": 0, "scale": 0},
    "dequantize": {"w": 1, "scale": 0, "zero": 0}, "embedding": {"ids": 0}, "stochastic_round": {"x": 0},
    "stochastic_round_update_": {"w": 1, "scale": 0, "dw": 0}, "hadamard": {"x": 0, "out": 0},
    "truncate": {"w": 1, "scale": 0, "zero": 0}, "pack": {"codes": 0}, "unpack": {"packed": 1}, "prepack": {"w": 1},
}  # fmt: skip


def spread(t: Tensor) -> Tensor:
    """The same values, no two of them side by side."""
    wide = torch.full((*(2 * n for n in t.shape),), 77, dtype=t.dtype)[(..., *[slice(None, None, 2)] * t.dim())]
    return wide.copy_(t)


def strided(op: str, given: Given) -> Given:
    """All but what is updated in place, which no op takes so."""
    fixed = {"w", "scale"} if op == "stochastic_round_update_" else set()
    return {name: spread(v) if isinstance(v, Tensor) and name not in fixed else v for name, v in given.items()}


def emptied(op: str, given: Given) -> Given:
    out = dict(given)
    for name, dim in ROWS[op].items():
        if isinstance(given.get(name), Tensor):
            out[name] = given[name].narrow(dim, 0, 0)
    return out | ({"offs": torch.zeros(1, dtype=torch.int32)} if "offs" in given else {})


def copied(t: Tensor) -> Tensor:
    """With storage of its own, of the same strides."""
    return torch.empty(0, dtype=t.dtype).set_(t.untyped_storage().clone(), t.storage_offset(), t.shape, t.stride())


def outcome(library: Any, name: str, given: Given) -> list[Tensor]:
    """What a call returns, and what its tensors hold afterwards."""
    packet, _, overload = name.partition(".")
    own = {key: copied(v) if isinstance(v, Tensor) else v for key, v in given.items()}
    got = getattr(getattr(library, packet), overload)(**own)
    returned = list(got) if isinstance(got, (tuple, list)) else [got]
    return [t for t in (*returned, *own.values()) if isinstance(t, Tensor)]
