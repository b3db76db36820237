"""Every op through the CUDA binding, against the CPU's: the same bits, floats within their bounds, for tensors as they
are, of any stride and without rows; a seed on the device; and what is refused once the kernels have seen it."""

from __future__ import annotations

from collections.abc import Iterator

import lowbit
import lowbit._C as _C
import numpy as np
import pytest
import torch
from cuda import test_hadamard as hadamard
from cuda import test_input_grad as input_grad
from cuda.binding_calls import CALLS, FLOAT, Given, emptied, outcome, strided
from cuda.bounds import assert_within, bound
from cuda.emulated import ARCH, ARCHS, MODELS, ops, run, same_bits
from oracle import gemm
from torch import Tensor

OPS = torch.ops.lowbit
SERVED = list(CALLS)


@pytest.fixture(autouse=True)
def reference() -> Iterator[None]:
    before = _C.isa()
    _C.force_isa("ref")
    yield
    _C.force_isa(before)


def weight(given: Given) -> gemm.Matrix:
    """int4:g32 with zero points, of the one expert there is."""
    w, scale, zero = (given[n].reshape(given[n].shape[-3 if n == "w" else -2 :]) for n in ("w", "w_scale", "w_zero"))
    codes = lowbit.ops.unpack(w.contiguous(), "int4", 64).numpy().astype(np.int64)
    values = (np.where(codes > 7, codes - 16, codes)).astype(np.float64)
    wide = [t.contiguous().numpy().repeat(32, 1) for t in (scale, zero)]
    return gemm.Matrix(values, 0, wide[0], wide[1].astype(np.int64), frozenset([32]), True)


def assert_near(name: str, given: Given, got: list[Tensor], model: str) -> None:
    """The result, the first tensor, against the exact one; the arguments, but an `out`, are as before."""
    result = given.get("out")
    if name.startswith("hadamard"):
        want = hadamard.exact(given["x"], 64, given["sign"], 0.125, False)
        allowed = hadamard.bound(want, given["x"], 64, 0.125, torch.float32)
    elif "dy" in given:
        values, dy = input_grad.exact_values(weight(given)), given["dy"].double().numpy()
        want, allowed = dy @ values, input_grad.bound(np.abs(dy) @ np.abs(values), 6, torch.float32)
    else:
        x, w = gemm.dense(given["x"].double().numpy()), weight(given)
        bias = given["bias"].reshape(-1).double().numpy()
        want = gemm.exact(x, w, bias)
        allowed = bound(x, w, bias, arch=ARCH, model=model, out=torch.float32, x_dtype=torch.float32)
    tensors = [t for t in given.values() if isinstance(t, Tensor)]
    at = next(i for i, t in enumerate(tensors) if t is result) if result is not None else 0
    assert_within(got[at], want, allowed)
    unchanged = [t for i, t in enumerate(got) if i != at]
    assert same_bits(unchanged, [t for t in tensors if t is not result])


def check(name: str, given: Given, arch: str | None = None, model: str = MODELS[0]) -> None:
    got = run(lambda library: outcome(library, name, given), arch, mma=model)  # type: ignore[arg-type, return-value]
    if name in FLOAT:
        assert_near(name, given, got, model)
    else:
        assert same_bits(got, outcome(OPS, name, given))


def filled(given: Given) -> Given:
    """Gradients and biases that are not zero."""
    out = dict(given)
    for key in {"dy", "bias", "w_zero", "dw"} & given.keys():
        t = given[key]
        random = torch.randint(-3, 4, t.shape, generator=torch.Generator().manual_seed(len(key)))
        out[key] = random.to(t.dtype) * (1 if key == "w_zero" else 0.25)
    return out


def test_the_binding_has_every_op() -> None:
    ops()
    missing = {
        n for n in CALLS if not torch._C._dispatch_has_kernel_for_dispatch_key(f"lowbit_emu::{n.split('.')[0]}", "CPU")
    }
    assert not missing


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", SERVED)
def test_as_the_cpu(name: str, model: str) -> None:
    if name in FLOAT or model == MODELS[0]:
        check(name, filled(CALLS[name]), model=model)


@pytest.mark.parametrize("name", SERVED)
def test_any_stride(name: str) -> None:
    check(name, strided(name.partition(".")[0], filled(CALLS[name])))


@pytest.mark.parametrize("name", SERVED)
def test_no_rows(name: str) -> None:
    if name == "unprepack.default":  # its rows are an argument, of which there is at least one
        return
    given = emptied(name.partition(".")[0], filled(CALLS[name]))
    got = run(lambda library: outcome(library, name, given))  # type: ignore[arg-type, return-value]
    assert same_bits(got, outcome(OPS, name, given))


@pytest.mark.parametrize("arch", ARCHS)
def test_architectures(arch: str) -> None:
    for name in SERVED:
        if name not in FLOAT:
            check(name, filled(CALLS[name]), arch)


@pytest.mark.parametrize("name", ["quantize.default", "stochastic_round.default", "stochastic_round_update_.default"])
def test_a_seed_on_the_device_is_read_in_the_call(name: str) -> None:
    given, results = filled(CALLS[name]), []
    for seed in ([1, 2], [1, 3], [2**62 + 1, 2**40]):
        given["seed"] = torch.tensor(seed)
        check(name, given)
        results.append(run(lambda library: outcome(library, name, given)))  # type: ignore[arg-type, return-value]
    # the result, or the weight that is updated
    first, second, third = (got[0] for got in results)
    assert not torch.equal(first, second)
    assert not torch.equal(first, third)
