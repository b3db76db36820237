"""stochastic_round and the weight update on CUDA: the bits of the CPU for the same seed and offset."""

from __future__ import annotations

from collections.abc import Iterator
from ctypes import c_int64

import lowbit._C as _C
import pytest
import torch
from cuda.kernels import (
    ARCH,
    ARCHS,
    Call,
    CUpdate,
    CValues,
    CWeight,
    Device,
    on,
    same_bits,
    twice,
    unwritten,
    workspace,
)
from lowbit import ops
from torch import Tensor

SEED = torch.tensor([11, 2**33 + 5])


@pytest.fixture(autouse=True)
def reference() -> Iterator[None]:
    before = _C.isa()
    _C.force_isa("ref")
    yield
    _C.force_isa(before)


def values(rows: int, cols: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, cols, generator=g) * torch.exp2(torch.randint(-6, 7, (rows, 1), generator=g).float())
    return torch.where(torch.rand(rows, cols, generator=g) < 0.2, (x * 8).round() / 8, x).to(dtype)


def stochastic_round(x: Tensor, format: str, arch: str = ARCH, *, on_device: bool = False) -> tuple[Tensor, set[str]]:
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(format, x.dtype)
    seed = SEED.tolist()
    given = [c_int64(s) for s in ([0, 0] if on_device else seed)]

    def call() -> tuple[Tensor, set[str]]:
        device, out = Device(x), unwritten(torch.empty(x.shape, dtype=dtype))
        matrices = device.matrix(), out.matrix()
        launch = Call(0, seed if on_device else None)
        found = launch.run("lowbit_cuda_stochastic_round", *matrices, format.encode(), *given)
        return out.get(), found

    with on(arch):
        return twice(call)


ELEMENTS = [f["name"] for f in _C.element_formats() if f["kind"] not in ("complex", "codebook")]
NAMES = ["bfloat16", "float16", *ELEMENTS]
SPECIAL = [0.0, -0.0, float("inf"), -float("inf"), 1e-45, -1e-45, 1e-38, 3e38, -3e38, 447.9, 448.0, 464.0, 5.99, 2**-9]


@pytest.mark.parametrize("name", NAMES)
def test_every_format(name: str) -> None:
    for x in (values(7, 77), values(3, 64, torch.bfloat16), torch.tensor([SPECIAL]), values(9, 40)[1:8, ::3]):
        got, found = stochastic_round(x, name)
        assert not found
        assert same_bits(got, ops.stochastic_round(x, name, SEED))


@pytest.mark.parametrize("arch", ["89", "90", "120f"])
@pytest.mark.parametrize("name", NAMES)
def test_every_format_on_architectures(name: str, arch: str) -> None:
    x = torch.cat([values(3, 35).reshape(1, -1), torch.tensor([SPECIAL])], dim=1)
    got, found = stochastic_round(x, name, arch)
    assert not found
    assert same_bits(got, ops.stochastic_round(x, name, SEED))


def test_architectures_and_the_seed_on_the_device() -> None:
    x = values(5, 100)
    want = ops.stochastic_round(x, "float8_e4m3fn", SEED)
    for arch in ("89", "90", "120f"):
        assert same_bits(stochastic_round(x, "float8_e4m3fn", arch)[0], want)
    assert same_bits(stochastic_round(x, "float8_e4m3fn", on_device=True)[0], want)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("rows", [0, 1, 3, 8, 17, 64, 129])
def test_rows(rows: int, arch: str) -> None:
    x = values(rows, 35)
    for name in ("bfloat16", "int3", "float5_e2m2fn"):
        got, found = stochastic_round(x, name, arch)
        assert not found
        assert same_bits(got, ops.stochastic_round(x, name, SEED))


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("rows", [1, 3, 8, 17, 64, 129])
def test_update_of_rows(rows: int, arch: str) -> None:
    x = values(rows, 35)
    for format in ("int4:g16", "float6_e3m2fn"):
        assert not update(x, 0.1 * x.flip(1), format, rescale=rows % 2 == 1, arch=arch)


def test_nan() -> None:
    x = values(2, 32)
    x[1, 3] = float("nan")
    assert stochastic_round(x, "int4")[1] == {"non_finite"}
    got, found = stochastic_round(x, "float8_e5m2")
    assert not found
    assert bool(got[1, 3].isnan())


def update(
    x: Tensor, dw: Tensor, format: str, *, asymmetric: bool = False, rescale: bool = False, arch: str = ARCH
) -> set[str]:
    """Checks the update of a weight made of x against the CPU's; gives the findings."""
    codes, scale, zero, _ = ops.quantize(x, format, asymmetric=asymmetric)
    want = [codes.clone(), scale.clone(), zero.clone()]
    ops.stochastic_round_update_(want[0], want[1], want[2] if asymmetric else None, dw, format, SEED, rescale=rescale)

    def call() -> tuple[list[Tensor], set[str]]:
        w, s, z, d = Device(codes), Device(scale), Device(zero), Device(dw)
        none = CValues(None, 0)
        new_scale, new_zero = unwritten(scale), unwritten(zero)
        weight = CWeight(
            format.encode(),
            None,
            w.pointer,
            s.values() if scale.dtype in VALUES else CValues(s.pointer, 0),
            none,
            none,
            z.values() if asymmetric else none,
            *x.shape,
            0,
        )
        args = CUpdate(
            weight,
            d.matrix(),
            new_scale.values() if rescale else none,
            new_zero.values() if rescale and asymmetric else none,
            *SEED.tolist(),
            0,
            rescale,
        )
        found = Call(workspace("lowbit_cuda_update_workspace", args)).run("lowbit_cuda_update", args)
        return [
            w.get(),
            *([new_scale.get()] if rescale else []),
            *([new_zero.get()] if rescale and asymmetric else []),
        ], found

    with on(arch):
        got, found = twice(call)
    for a, b in zip(got, want, strict=False):
        assert torch.equal(a, b)
    return found


VALUES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize(
    "format",
    [
        "int4:g32",
        "int8",
        "int3:g7",
        "nf4:g64",
        "float8_e4m3fn:tensor",
        "float6_e3m2fn:g16",
        "bipolar2",
        "ternary:b4x8",
        "float4_e2m1fn:row",
    ],
)
def test_update(format: str, rescale: bool) -> None:
    for rows, cols in ((5, 77), (16, 128)):
        x = values(rows, cols)
        dw = torch.randn(rows, cols, generator=torch.Generator().manual_seed(1)) * 0.1 * x.abs().mean(1, keepdim=True)
        assert not update(x, dw.to(torch.bfloat16), format, rescale=rescale)


@pytest.mark.parametrize("rescale", [False, True])
def test_update_with_zero_points(rescale: bool) -> None:
    x = values(9, 70) + 0.5
    dw = torch.randn(9, 70, generator=torch.Generator().manual_seed(2))
    for format in ("uint4:g16", "uint8", "uint5:g7"):
        assert not update(x, dw, format, asymmetric=True, rescale=rescale)


def test_update_of_coded_scales() -> None:
    x = values(5, 96)
    assert not update(x, 0.1 * x.flip(0), "mxfp4", arch="120f")


def test_a_dw_that_is_not_finite_leaves_its_code() -> None:
    x = values(4, 64)
    codes, scale, _, _ = ops.quantize(x, "int8")
    dw = torch.zeros(4, 64)
    dw[2, 7] = float("inf")
    w, s, d, none = Device(codes), Device(scale), Device(dw), CValues(None, 0)
    args = CUpdate(
        CWeight(b"int8", None, w.pointer, s.values(), none, none, none, 4, 64, 0), d.matrix(), none, none, 1, 2, 0, 0
    )
    with on():
        assert Call(0).run("lowbit_cuda_update", args) == {"non_finite"}
    assert torch.equal(w.get(), codes)
