"""stochastic_round and stochastic_round_update_ as ops: schema and fakes, strides, error sentences."""

import lowbit  # noqa: F401
import pytest
import torch

ops = torch.ops.lowbit
SEED = torch.tensor([1, 2])
CHECKS = ("test_schema", "test_faketensor")


@pytest.mark.parametrize("format", ["int4", "float8_e4m3fn", "bfloat16", "float16", "nf4"])
def test_opcheck(format):
    for x in (
        torch.randn(3, 40),
        torch.randn(3, 40).t(),
        torch.randn(2, 3, 5).half(),
        torch.randn(0, 4),
        torch.randn(7),
    ):
        torch.library.opcheck(ops.stochastic_round.default, (x, format, SEED), test_utils=CHECKS)


@pytest.mark.parametrize("format", ["int4:g8", "uint4:g16", "float8_e4m3fn:b2x16", "float6_e2m3fn"])
@pytest.mark.parametrize("rescale", [False, True])
def test_opcheck_of_the_update(format, rescale):
    asymmetric = format.startswith("uint")
    codes, scale, zero, _ = ops.quantize(torch.randn(5, 40), format, asymmetric=asymmetric)
    args = (codes, scale, zero if asymmetric else None, torch.randn(40, 5).t(), format, SEED)
    torch.library.opcheck(ops.stochastic_round_update_.default, args, {"rescale": rescale}, test_utils=CHECKS)


def test_scalars_and_empty_tensors(isa):
    assert ops.stochastic_round(torch.tensor(3.0), "int4", SEED).item() == 3
    assert ops.stochastic_round(torch.randn(0, 4), "int4", SEED).shape == (0, 4)
    assert ops.stochastic_round(torch.randn(4, 0), "int4", SEED).shape == (4, 0)


W, SCALE, ZERO, _ = ops.quantize(torch.randn(4, 64), "uint4:g16", asymmetric=True)
DW = torch.zeros(4, 64)


def update(w=W, scale=SCALE, zero=ZERO, dw=DW, format="uint4:g16", **kwargs):
    ops.stochastic_round_update_(w, scale, zero, dw, format, SEED, **kwargs)


ERRORS = [
    (lambda: ops.stochastic_round(DW.double(), "int4", SEED), "x must be float32, bfloat16 or float16, got float64"),
    (lambda: ops.stochastic_round(DW, "int44", SEED), 'format must name a known format, got "int44"'),
    (lambda: ops.stochastic_round(DW, "complex2", SEED), "format must be .* of real values of its own, got"),
    (lambda: ops.stochastic_round(DW, "table4", SEED), "format must be .* of real values of its own, got"),
    (lambda: ops.stochastic_round(DW, "int4", SEED.int()), r"seed must be int64 \[2\] .* got int32 \[2\]"),
    (lambda: update(dw=DW[:3]), "dw must have the shape of the weight"),
    (lambda: update(dw=DW[:, :32]), "w must have 1 words a row for K = 32"),
    (lambda: update(dw=DW[0]), r"dw must be \[rows, K\], or \[experts, rows, K\]"),
    (lambda: update(dw=DW.long()), "dw must be float32, bfloat16 or float16, got int64"),
    (lambda: update(format="complex2"), "w must be canonical codes"),
    (lambda: update(format="uint4:g16@tile16"), "w must be canonical codes"),
    (lambda: update(w=torch.zeros(4, 64, dtype=torch.uint8)), "w must be canonical codes"),
    (lambda: update(format="nvfp4"), "format must have float scales"),
    (lambda: update(w=W.transpose(1, 2).contiguous().transpose(1, 2)), "w must be contiguous to be updated in place"),
    (lambda: update(scale=SCALE.t().contiguous().t()), "scale must be contiguous to be updated in place"),
    (lambda: update(zero=ZERO.float(), rescale=True), "zero must be contiguous uint8 or int32 .* got float32"),
    (lambda: update(dw=DW + 3e38, scale=SCALE.half(), rescale=True), "dw must be small enough for its scale"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "sentence"), ERRORS)
def test_errors_write_nothing(isa, call, sentence):
    before = [t.clone() for t in (W, SCALE, ZERO)]
    with pytest.raises(ValueError, match=sentence):
        call()
    assert all(torch.equal(a, b) for a, b in zip(before, (W, SCALE, ZERO), strict=True))


def test_an_update_may_not_read_what_it_writes(isa):
    w, scale, _, _ = ops.quantize(torch.randn(1, 32), "float8_e4m3fn:g32")
    memory = torch.zeros(64)
    codes = memory.view(torch.uint8)[:32].view(1, 32)
    codes.copy_(w)
    with pytest.raises(ValueError, match="w must not share memory with dw"):
        ops.stochastic_round_update_(codes, scale, None, memory[:32].view(1, 32), "float8_e4m3fn:g32", SEED)
