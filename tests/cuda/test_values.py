"""What kernels find in values reaches the caller without a wait: by the next call, or by lowbit.check_values()."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lowbit
import pytest
import torch
from cuda.emulated import ops
from emu import emulator
from emu.toolchain import build_emulated_ops
from lowbit import library
from torch import Tensor

SEED = torch.tensor([3, 1])


def draw(rows: int, cols: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


def check_values() -> None:
    library.check_values(Path(os.environ.get("LOWBIT_EMULATED_OPS") or build_emulated_ops()))


@pytest.fixture(autouse=True)
def nothing_found() -> Iterator[None]:
    with emulator.settings(arch="80"), emulator.silent():
        ops()
        yield
        check_values()


X = draw(5, 96)
W, SCALE, _, _ = lowbit.ops.quantize(draw(7, 96, 1), "int4:g32")
TERNARY = torch.stack([torch.ones(2, 3, dtype=torch.int32), torch.zeros(2, 3, dtype=torch.int32)])
IDS = torch.tensor([[0, 6], [3, 3]])


def spoilt(x: Tensor, value: float = float("nan")) -> Tensor:
    x = x.clone()
    x.view(-1)[x.numel() // 2] = value
    return x


def update(library: Any, dw: Tensor) -> Tensor:
    w = W.clone()
    library.stochastic_round_update_(w, SCALE, None, dw, "int4:g32", SEED)
    return w


HOT: dict[str, Callable[[Any], object]] = {
    "quantize": lambda o: o.quantize(X, "int4:g32"),
    "quantize stochastic": lambda o: o.quantize(X, "int8", rounding="stochastic", seed=SEED),
    "quantize of the tensor": lambda o: o.quantize(X, "float8_e4m3fn:tensor"),
    "quantize to a table": lambda o: o.quantize(X, "table2:g32", table=torch.tensor([-1.0, -0.25, 0.25, 1.0])),
    "quantize with a transform": lambda o: o.quantize(X, "int8", hadamard=32),
    "quantize with scales": lambda o: o.quantize(X, "int8", scale=torch.ones(5, 1)),
    "dequantize": lambda o: o.dequantize(W, SCALE, None, "int4:g32", 96),
    "embedding": lambda o: o.embedding(IDS, W, SCALE, None, "int4:g32", 96),
    "stochastic_round": lambda o: o.stochastic_round(X, "int4", SEED),
    "stochastic_round_update_": lambda o: update(o, draw(7, 96)),
    "hadamard": lambda o: o.hadamard(X, block=32, sign=torch.ones(32)),
    "unpack": lambda o: o.unpack(W, "int4", 96),
    "prepack": lambda o: o.prepack(W, "int4", 96, layout="mma64"),
}


@pytest.mark.parametrize("call", HOT)
def test_a_hot_call_does_not_wait(call: str) -> None:
    for _ in range(2):
        emulator.clear()
        HOT[call](ops())
        assert emulator.counts()
        assert emulator.waits() == 0


WEIGHT: dict[str, Callable[[Any], object]] = {
    "pack": lambda o: o.pack(torch.zeros(3, 40, dtype=torch.uint8), "int3"),
    "truncate": lambda o: o.truncate(W, SCALE, None, "int4:g32", 2),
}


@pytest.mark.parametrize("call", WEIGHT)
def test_what_makes_a_weight_waits_for_itself(call: str) -> None:
    emulator.clear()
    WEIGHT[call](ops())
    assert emulator.waits() == 1


LATE: dict[str, tuple[Callable[[Any], object], str]] = {
    "quantize: x must be finite": (lambda o: o.quantize(spoilt(X), "int4:g32"), "quantize"),
    "quantize: x must be small enough": (
        lambda o: o.quantize(spoilt(X, 3e38), "int1:g32", scale_dtype=torch.float16), "quantize",
    ),
    "quantize: table must be finite and ascending": (
        lambda o: o.quantize(X, "table2:g32", table=torch.tensor([-1.0, 0.25, -0.25, 1.0])), "quantize to a table",
    ),
    "dequantize: scale must be finite": (
        lambda o: o.dequantize(W, spoilt(SCALE), None, "int4:g32", 96), "dequantize",
    ),
    "dequantize: w must hold codes": (lambda o: o.dequantize(TERNARY, None, None, "ternary", 96), "dequantize"),
    "embedding: ids must be rows of w": (
        lambda o: o.embedding(torch.tensor([2, 7]), W, SCALE, None, "int4:g32", 96), "embedding",
    ),
    "stochastic_round: x must be finite": (
        lambda o: o.stochastic_round(spoilt(X), "int4", SEED), "stochastic_round",
    ),
    "stochastic_round_update_: dw must be finite": (
        lambda o: update(o, spoilt(draw(7, 96), float("inf"))), "stochastic_round_update_",
    ),
}  # fmt: skip


@pytest.mark.parametrize("sentence", LATE)
def test_the_next_call_raises_once(sentence: str) -> None:
    call, same = LATE[sentence]
    emulator.clear()
    call(ops())
    assert emulator.waits() == 0
    before = emulator.counts()
    with pytest.raises(ValueError, match=f"^{sentence}.* by this or an earlier call.*; "):
        HOT[same](ops())
    assert emulator.counts() == before  # nothing was launched
    HOT[same](ops())


@pytest.mark.parametrize("sentence", LATE)
def test_check_values_raises_once(sentence: str) -> None:
    LATE[sentence][0](ops())
    emulator.clear()
    with pytest.raises(ValueError, match=f"^{sentence}"):
        check_values()
    assert emulator.waits() == 1
    check_values()


def test_any_op_that_looks_at_values_raises() -> None:
    LATE["quantize: x must be finite"][0](ops())
    with pytest.raises(ValueError, match=r"^quantize: x must be finite"):
        HOT["embedding"](ops())


def test_a_weight_of_bad_codes_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"^pack: codes must hold codes of its format"):
        ops().pack(torch.full((3, 40), 9, dtype=torch.uint8), "int3")
    with pytest.raises(ValueError, match=r"^truncate: scale must be small enough"):
        ops().truncate(W, (SCALE * 1e6).half().clamp(max=3e4), None, "int4:g32", 1)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
@pytest.mark.parametrize("bad", [-1, 7, 2**31 - 1])
def test_an_id_that_is_no_row_is_not_followed(bad: int, dtype: torch.dtype) -> None:
    ids = torch.tensor([[5, bad], [bad, 0]], dtype=dtype)
    rows = ops().embedding(ids, W, SCALE, None, "int4:g32", 96, out_dtype=torch.bfloat16)
    want = lowbit.ops.embedding(ids.clamp(0, 6), W, SCALE, None, "int4:g32", 96, out_dtype=torch.bfloat16)
    want[0, 1], want[1, 0] = 0, 0
    assert torch.equal(rows, want)
    with pytest.raises(ValueError, match=r"^embedding: ids must be rows of w"):
        check_values()


def test_a_non_finite_x_is_quantized_as_zero() -> None:
    x = X.clone()
    x[2] = 0
    x[2, 5] = float("nan")
    codes, scale, _, _ = ops().quantize(x, "int8", scale=torch.ones(5, 1), layout="plain")
    assert int(codes[2].abs().max()) == 0
    assert scale.numel() == 0
    with pytest.raises(ValueError, match=r"^quantize: x must be finite"):
        check_values()
