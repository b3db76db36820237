"""Elements more than 2^31 apart: a few rows of a sparse mapping of many gigabytes."""

from __future__ import annotations

import mmap

import numpy as np
import torch
from cuda.kernels import Call, CHadamard, CMatrix, CQuantize, CValues, Device, on, unwritten, workspace
from emu import emulator
from lowbit import ops

STRIDE = 2**31 + 64  # elements between two rows: 4.3 GB of bfloat16


def test_rows_far_apart() -> None:
    x = torch.randn(2, 256, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    memory = mmap.mmap(
        -1, 2 * STRIDE + 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    )
    whole = np.frombuffer(memory, np.uint8)
    rows = [whole[2 * STRIDE * r : 2 * STRIDE * r + 512] for r in range(2)]
    for r in range(2):
        rows[r][:] = x[r].view(torch.uint8).numpy()
    far = CMatrix(whole.ctypes.data, 1, 2, 256, STRIDE, 1)
    out = unwritten(torch.empty(2, 256))
    args = CHadamard(far, out.matrix(), 256, None, 0, 1.0, 0)
    like = ops.quantize(x, "int4:g32")
    codes, scale, none = unwritten(like[0]), unwritten(like[1]), CValues(None, 0)
    quantized = CQuantize(far, b"int4:g32", None, codes.pointer, scale.values(), none, none, 2, 256, *[0] * 8)
    with emulator.mapped(*rows), on("90"):
        assert not Call(workspace("lowbit_cuda_hadamard_workspace", args)).run("lowbit_cuda_hadamard", args)
        assert not Call(0).run("lowbit_cuda_quantize", quantized)
    near = unwritten(torch.empty(2, 256))
    device = Device(x)
    args = CHadamard(device.matrix(), near.matrix(), 256, None, 0, 1.0, 0)
    with on("90"):
        Call(0).run("lowbit_cuda_hadamard", args)
    assert torch.equal(out.get(), near.get())
    assert torch.equal(codes.get(), like[0])
    assert torch.equal(scale.get(), like[1])
