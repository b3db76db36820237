"""truncate on CUDA: the codes, scales and zero points of the CPU, bit for bit."""

from __future__ import annotations

import pytest
import torch
from cuda.emulated import ARCHS, ops, same_bits
from emu import emulator
from lowbit import ops as cpu
from torch import Tensor


def codes_of(bits: int, *shape: int) -> Tensor:
    return torch.randint(1 << bits, shape, generator=torch.Generator().manual_seed(bits)).to(torch.uint8)


def check(w: Tensor, scale: Tensor | None, zero: Tensor | None, format: str, bits: int, arch: str = "80") -> None:
    with emulator.settings(arch=arch), emulator.silent():
        got = ops().truncate(w, scale, zero, format, bits)
    want = cpu.truncate(w, scale, zero, format, bits)
    for name, a, b in zip(("codes", "scale", "zero"), got, want, strict=True):
        assert same_bits(a, b), name


@pytest.mark.parametrize("kind", ["int", "uint", "bipolar"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_every_width(kind: str, bits: int) -> None:
    name = f"{kind}{bits}"
    for shape in ((1, 1), (5, 77), (9, 300)):
        plain = codes_of(bits, *shape)
        scale = torch.rand(shape[0], 1) + 0.5
        for keep in range(1, bits + 1):
            check(cpu.pack(plain, name), scale, None, name, keep)
            check(plain, scale.bfloat16(), None, name, keep)


@pytest.mark.parametrize("arch", ARCHS)
def test_architectures_experts_and_strides(arch: str) -> None:
    plain = codes_of(6, 3, 10, 130)
    planes = cpu.pack(plain, "uint6")
    scale = torch.rand(3, 10, 3).half()
    for zero in (
        None, torch.randint(64, (3, 10, 3), dtype=torch.int32), torch.randint(64, (3, 10, 3)).to(torch.uint8),
        torch.rand(3, 10, 3), torch.rand(3, 10, 3).bfloat16(),
    ):  # fmt: skip
        check(planes, scale, zero, "uint6:g64", 4, arch)
    wide = torch.nn.functional.pad(planes[0], (0, 3), value=-1)
    check(wide[..., : planes.shape[-1]], scale[0], None, "uint6:g64", 3, arch)
    check(planes[1][:, ::2], scale[1, ::2], None, "uint6:g64", 1, arch)
    check(plain[:, :, 3:90], None, None, "uint6", 5, arch)


def test_signed_plain_codes() -> None:
    w, scale, _, _ = cpu.quantize(torch.randn(6, 90), "int5:g16", layout="plain")
    assert w.dtype == torch.int8
    check(w, scale, None, "int5:g16", 3)


def test_nothing() -> None:
    check(cpu.pack(codes_of(4, 0, 64), "int4"), torch.ones(0, 1), None, "int4", 2)
