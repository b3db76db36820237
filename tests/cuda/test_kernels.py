"""The runner that the tests of this folder share: a second run in another order, whose bits must be the same."""

from __future__ import annotations

import pytest
import torch
from cuda.kernels import MODELS, on, same_bits, twice
from emu import emulator


@pytest.mark.parametrize("model", MODELS)
def test_the_second_run_is_in_another_order(model: str) -> None:
    orders: list[tuple[str, str]] = []
    with on(mma=model):
        twice(lambda: orders.append((emulator.get("seed"), emulator.get("order"))))
    assert len(set(orders)) == 2


def test_other_bits_in_the_second_run_are_seen() -> None:
    results = iter([torch.zeros(3), torch.tensor([0.0, -0.0, 0.0])])
    with on(), pytest.raises(AssertionError, match="two runs differ"):
        twice(lambda: [next(results)])


def test_bits() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    assert same_bits((x, {"non_finite"}), (x.t().contiguous().t(), {"non_finite"}))
    assert not same_bits(x, x.t())
    assert not same_bits(x, x.bfloat16())
    assert not same_bits([x, set()], [x, {"bad_code"}])
