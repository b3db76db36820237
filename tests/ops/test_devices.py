"""Tensors of one call on two devices are refused, by every op and for every argument: none gives memory that nothing
was written to."""

import lowbit
import pytest
import torch
from torch import Tensor

OPS = torch.ops.lowbit
X, SEED = torch.randn(3, 64), torch.tensor([1, 2])
W, SCALE, _, _ = lowbit.ops.quantize(torch.randn(6, 64), "int4:g32")
ZERO, BIAS = torch.zeros(6, 2, dtype=torch.int32), torch.zeros(6)
XQ, XS, _, _ = lowbit.ops.quantize(X, "int8:row")
WEIGHT = {"w": W, "w_scale": SCALE, "w_zero": ZERO, "w_format": "int4:g32"}
EXPERTS = {"w": W[None], "w_scale": SCALE[None], "w_zero": ZERO[None], "w_format": "int4:g32"}
OFFS = {"offs": torch.tensor([3], dtype=torch.int32)}
CALLS: dict[str, dict[str, object]] = {
    "gemm.default": {"x": X, **WEIGHT, "bias": BIAS},
    "gemm.out": {"x": X, **WEIGHT, "bias": BIAS, "out": torch.zeros(3, 6)},
    "gemm.autograd": {"x": X, **WEIGHT, "bias": BIAS},
    "dequant_gemm.default": {"x": X, **WEIGHT, "bias": BIAS},
    "dequant_gemm_input_grad.default": {"dy": torch.zeros(3, 6), **WEIGHT, "k": 64},
    "scaled_gemm.default": {"x": XQ, "x_scale": XS, "x_format": "int8:row", **WEIGHT, "k": 64, "bias": BIAS},
    "bitplane_gemm.default": {"x": XQ, "x_scale": XS, "x_zero": None, "x_format": "int8:row", **WEIGHT, "k": 64},
    "grouped_gemm.default": {"x": X, **EXPERTS, **OFFS, "bias": BIAS[None]},
    "grouped_gemm_input_grad.default": {"dy": torch.zeros(3, 6), **EXPERTS, **OFFS, "k": 64},
    "quantize.default": {"x": X, "format": "int8:row", "scale": torch.ones(3, 1), "seed": SEED,
                         "rounding": "stochastic"},
    "dequantize.default": {"w": W, "scale": SCALE, "zero": ZERO, "format": "int4:g32", "k": 64},
    "embedding.default": {"ids": torch.tensor([1]), "w": W, "scale": SCALE, "zero": ZERO, "format": "int4:g32",
                          "k": 64},
    "stochastic_round.default": {"x": X, "format": "int4", "seed": SEED},
    "stochastic_round_update_.default": {"w": W.clone(), "scale": SCALE, "zero": None, "dw": torch.zeros(6, 64),
                                         "format": "int4:g32", "seed": SEED},
    "hadamard.default": {"x": X, "sign": torch.ones(64)},
    "hadamard.out": {"x": X, "sign": torch.ones(64), "out": torch.zeros(3, 64)},
    "hadamard.autograd": {"x": X, "sign": torch.ones(64)},
    "truncate.default": {"w": W, "scale": SCALE, "zero": ZERO, "format": "int4:g32", "bits": 2},
}  # fmt: skip


def one_tensor() -> set[str]:
    return {"pack.default", "unpack.default", "prepack.default", "unprepack.default"}


def test_every_op_is_here() -> None:
    overloads = {f"{name}.{o or 'default'}" for name in lowbit.ops.__all__ for o in getattr(OPS, name).overloads()}
    # the twins of gemm.autograd have the same fakes
    assert overloads - set(CALLS) - one_tensor() == {"dequant_gemm.autograd", "grouped_gemm.autograd"}


@pytest.mark.parametrize(
    ("name", "argument"), [(n, a) for n, given in CALLS.items() for a, v in given.items() if isinstance(v, Tensor)]
)
def test_two_devices_are_refused(name: str, argument: str) -> None:
    packet, _, overload = name.partition(".")
    op, given = getattr(getattr(OPS, packet), overload), CALLS[name]
    op(**given)
    moved = given | {argument: given[argument].to("meta")}  # type: ignore[attr-defined]
    with pytest.raises(
        ValueError, match=rf"^{packet}: \w+ must be on the device of \w+, (cpu|meta), got (cpu|meta); move"
    ):
        op(**moved)
