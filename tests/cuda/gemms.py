"""bitplane_gemm, dequant_gemm and scaled_gemm on CUDA, through csrc/cuda/c_api/gemm.cpp."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_int64, c_void_p

import torch
from cuda import kernels
from cuda.weights import CQuantized, Weight
from operands import Operand
from torch import Tensor


class CGemm(Structure):
    _fields_ = [
        ("x", kernels.CMatrix), ("xq", POINTER(CQuantized)), ("w", CQuantized), ("m", c_int64), ("n", c_int64),
        ("k", c_int64), ("bias", c_void_p), ("bias_dtype", c_int64), ("out", kernels.CMatrix),
    ]  # fmt: skip


def gemm(
    family: str, x: Operand | Tensor, w: Operand, n: int, k: int, arch: str | None = None, *,
    bias: Tensor | None = None, dtype: torch.dtype = torch.float32, extras: dict[str, Tensor] | None = None,
    mma: str = "exact", alone: bool = False,
) -> Tensor:  # fmt: skip
    """x w^T of one family on an emulated device, all checkers silent. `extras`: what a weight may bring along; `alone`:
    on one multiprocessor, which shares nothing."""
    weight = Weight(w, n, k, extras)
    m = len(x) if isinstance(x, Tensor) else x.matrix.values.shape[0]
    out = kernels.unwritten(torch.empty(m, n, dtype=dtype))
    args = CGemm(w=weight.c, m=m, n=n, k=k, out=out.matrix())
    if isinstance(x, Tensor):
        given = kernels.Device(x)
        args.x = given.matrix()
    else:
        codes = Weight(x, m, k)
        args.xq = ctypes.pointer(codes.c)
    if bias is not None:
        on_device = kernels.Device(bias)
        args.bias, args.bias_dtype = on_device.pointer, kernels.DTYPES[bias.dtype]
    with kernels.on(arch, mma=mma):
        workspace = kernels.workspace(f"lowbit_cuda_{family}_workspace", args)
        call = kernels.Call(workspace)
        call.c.multiprocessors = int(alone)
        assert not call.run(f"lowbit_cuda_{family}", args)
    return out.get()
