"""What the op hadamard refuses, and the sentences it does it with."""

import lowbit  # noqa: F401
import pytest
import torch

X = torch.ones(3, 64)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"x": torch.ones(())}, "x must have at least 1 dimension, got a scalar"),
        ({"x": torch.ones(2, 4, dtype=torch.float64)}, "x must be float32, bfloat16 or float16, got float64"),
        ({"x": torch.ones(2, 4, dtype=torch.int32)}, "x must be float32, bfloat16 or float16, got int32"),
        ({"x": X, "block": -1}, "block must be at least 0, got -1"),
        ({"x": X, "block": 48}, "x must have a multiple of block = 48 columns, got 64"),
        ({"x": torch.ones(2, 50)}, "got 50; the nearest sizes are 48 and 52"),
        ({"x": X, "sign": torch.ones(32)}, r"sign must have 64 or 64 elements \(a block or a row\), got 32"),
        ({"x": X, "block": 16, "sign": torch.ones(32)}, r"sign must have 16 or 64 elements"),
        ({"x": X, "sign": torch.ones(1, 64)}, r"sign must have 1 dimension, got shape \[1, 64\]"),
        ({"x": X, "sign": torch.zeros(64)}, r"sign must be \+1 or -1, got 0 at 0"),
        ({"x": X, "sign": torch.ones(64, dtype=torch.int32)}, "sign must be float32, bfloat16 or float16, got int32"),
    ],
)
def test_refusals(arguments, sentence):
    with pytest.raises(ValueError, match="^hadamard: .*" + sentence) as raised:
        torch.ops.lowbit.hadamard(**arguments)
    assert "; " in str(raised.value)  # a way out


@pytest.mark.parametrize(
    ("x", "out", "sentence"),
    [
        (X, torch.ones(3, 32), r"out must have the shape of x, \[3, 64\], got \[3, 32\]"),
        (X, torch.ones(192), r"out must have the shape of x, \[3, 64\], got \[192\]"),
        (X, torch.ones(3, 64, dtype=torch.float64), "out must be float32, bfloat16 or float16, got float64"),
        (X, torch.ones(1, 64).expand(3, 64), "out must not overlap itself"),
        (X, X[0].expand(3, 64), "out must not overlap itself"),
    ],
)
def test_refused_outputs(x, out, sentence):
    before = out.clone()
    with pytest.raises(ValueError, match="^hadamard: .*" + sentence):
        torch.ops.lowbit.hadamard.out(x, out=out)
    assert torch.equal(out, before)


def test_partial_overlap_is_refused():
    memory = torch.arange(4 * 64, dtype=torch.float32)
    before = memory.clone()
    x = memory[: 3 * 64].view(3, 64)
    for out in (memory[64:].view(3, 64), memory[1 : 3 * 64 + 1].view(3, 64)):
        with pytest.raises(ValueError, match=r"^hadamard: out must not share memory with x"):
            torch.ops.lowbit.hadamard.out(x, out=out)
    halves = memory.view(torch.bfloat16)[: 3 * 64].view(3, 64)
    with pytest.raises(ValueError, match=r"^hadamard: out must not share memory with x"):
        torch.ops.lowbit.hadamard.out(x, out=halves)
    assert torch.equal(memory, before)


def test_signs_of_any_float_dtype_and_stride():
    x = torch.randn(2, 16)
    sign = torch.tensor([1.0, -1.0]).repeat(8)
    expected = torch.ops.lowbit.hadamard(x, sign=sign)
    for s in (sign.half(), sign.bfloat16(), torch.stack([sign, -sign], 1)[:, 0]):
        assert torch.equal(torch.ops.lowbit.hadamard(x, sign=s), expected)
