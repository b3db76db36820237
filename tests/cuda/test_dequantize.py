"""What dequantize on CUDA reads beside plain weights: two widths in a row, outliers, damaged codes and scales."""

from __future__ import annotations

import torch
from cuda.kernels import ARCH, Call, CDequantize, CValues, CWeight, Device, on, twice, unwritten
from lowbit import ops
from torch import Tensor

NONE = CValues(None, 0)


def draw(rows: int, cols: int, seed: int) -> Tensor:
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


def run(args: CDequantize, out: Device, arch: str = ARCH) -> tuple[Tensor, set[str]]:
    def call() -> tuple[Tensor, set[str]]:
        found = Call(0).run("lowbit_cuda_dequantize", args)
        return out.get(), found

    with on(arch):
        return twice(call)


def test_two_widths_and_outliers() -> None:
    rows, group, groups = 6, 32, 5
    cols = groups * group - 7  # the last group is short
    wide = torch.tensor([1, 4], dtype=torch.int32)
    ends = [(g * group, min(cols, (g + 1) * group)) for g in range(groups)]
    columns = {
        h: [c for g, (a, b) in enumerate(ends) for c in range(a, b) if (g in wide.tolist()) == h] for h in (False, True)
    }
    x = draw(rows, cols, 0)
    scale = draw(rows, groups, 1).abs() + 0.1
    want = torch.empty(rows, cols)
    codes = {}
    for high, format in ((False, "int2"), (True, "int4")):
        part = x[:, columns[high]].contiguous()
        codes[high], own, _, _ = ops.quantize(part, format)
        unit = ops.dequantize(codes[high], torch.ones_like(own), None, format, part.shape[1])
        want[:, columns[high]] = unit
    want *= scale.repeat_interleave(group, 1)[:, :cols]
    # outliers of rows 0, 2, 2 and 5; one column of row 2 twice
    offsets = torch.tensor([0, 1, 1, 4, 4, 4, 5], dtype=torch.int32)
    at = torch.tensor([3, 40, 7, 40, cols - 1], dtype=torch.int32)
    values = torch.tensor([0.5, -1.25, 2.0, 0.125, 3.0], dtype=torch.bfloat16)
    for r in range(rows):
        for i in range(int(offsets[r]), int(offsets[r + 1])):
            want[r, at[i]] += values[i].float()
    low, high, s, o, c, v, g = (Device(t) for t in (codes[False], codes[True], scale, offsets, at, values, wide))
    out = unwritten(torch.empty(rows, cols))
    weight = CWeight(b"int2:g32", None, low.pointer, s.values(), NONE, NONE, NONE, rows, cols, 0)
    args = CDequantize(
        weight, None, out.matrix(), o.pointer, c.pointer, v.pointer, 1, b"int4", high.pointer, g.pointer, 2,
        len(columns[True]), group,
    )  # fmt: skip
    got, found = run(args, out)
    assert not found
    assert torch.equal(got, want)


def weight_of(x: Tensor, format: str) -> tuple[Tensor, Tensor]:
    codes, scale, _, _ = ops.quantize(x, format)
    return codes, scale


def test_damage_is_found() -> None:
    x = draw(4, 64, 2)
    codes, scale = weight_of(x, "ternary:g32")
    damaged = codes.clone()
    damaged[0, 2, 1], damaged[1, 2, 1] = 1 << 5, 0  # the high bit alone is no code
    broken = scale.clone()
    broken[3, 1] = float("inf")
    for w, s, finding in ((codes, scale, set()), (damaged, scale, {"bad_code"}), (codes, broken, {"bad_scale"})):
        device, scales, out = Device(w), Device(s), unwritten(torch.empty(4, 64))
        weight = CWeight(b"ternary:g32", None, device.pointer, scales.values(), NONE, NONE, NONE, 4, 64, 0)
        args = CDequantize(weight, None, out.matrix(), None, None, None, 0, None, None, None, 0, 0, 0)
        assert run(args, out, "120f")[1] == finding
