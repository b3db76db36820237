"""Elements more than 2^31 apart: a few rows of a sparse mapping of many gigabytes."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import pytest
import torch
from cuda.kernels import (
    DTYPES,
    Call,
    CDequantize,
    CHadamard,
    CMatrix,
    CQuantize,
    CUpdate,
    CValues,
    CWeight,
    Device,
    on,
    unwritten,
    workspace,
)
from cuda.weights import LAYOUTS, CCodes, CGrouped, Weight
from emu import emulator
from lowbit import ops
from operands import operand
from oracle import gemm as oracle

STRIDE = 2**31 + 64  # elements between two rows: 4.3 GB of bfloat16


def sparse(size: int) -> np.ndarray:
    """Bytes of zeros that take memory where they are written."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    return np.frombuffer(mmap.mmap(-1, size, flags=flags), np.uint8)


def test_rows_far_apart() -> None:
    x = torch.randn(2, 256, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    whole = sparse(2 * STRIDE + 4096)
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


def far_rows(t: torch.Tensor, stride: int = STRIDE) -> tuple[np.ndarray, list[np.ndarray]]:
    """Memory in which rows like those of `t`, with its values, lie `stride` elements apart; and the rows."""
    size, length = t.element_size(), t.shape[1] * t.element_size()
    memory = sparse(size * stride * (len(t) - 1) + length + 4096)
    rows = [memory[size * stride * r : size * stride * r + length] for r in range(len(t))]
    for to, row in zip(rows, t, strict=True):
        to[:] = row.contiguous().view(torch.uint8).numpy()
    return memory, rows


def values_of(rows: list[np.ndarray], dtype: torch.dtype) -> torch.Tensor:
    return torch.stack([torch.from_numpy(row.copy()) for row in rows]).view(dtype)


@pytest.mark.parametrize("block", [256, 576, 28672, 32768])  # each engine
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_hadamard_to_rows_far_apart(block: int, dtype: torch.dtype) -> None:
    x = torch.randn(2, block, generator=torch.Generator().manual_seed(block)).to(dtype)
    memory, rows = far_rows(torch.zeros_like(x))
    device, near = Device(x), unwritten(x)
    out = CMatrix(memory.ctypes.data, DTYPES[dtype], 2, block, STRIDE, 1)
    for to in (out, near.matrix()):
        args = CHadamard(device.matrix(), to, block, None, 0, 1.0, 0)
        with emulator.mapped(*rows), on("90"):
            assert not Call(workspace("lowbit_cuda_hadamard_workspace", args)).run("lowbit_cuda_hadamard", args)
    assert torch.equal(values_of(rows, dtype), near.get())


@pytest.mark.parametrize("layout", ["canonical", "mma64"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_product_of_float_rows_far_apart(dtype: torch.dtype, layout: str) -> None:
    """Rows of x and out in the narrow loop (two of them) and in the wide one (all experts')."""
    k, n = 192, 24
    rng = np.random.default_rng(6)
    weight = Weight(operand(rng, "int4:g64", n, k, layout=layout), n, k)
    x = torch.from_numpy(rng.standard_normal((2, k)).astype(np.float32)).to(dtype)
    (far_x, x_rows), (far_out, out_rows) = far_rows(x), far_rows(torch.zeros(2, n))
    device, offs = Device(x), Device(torch.tensor([2], dtype=torch.int32))
    for op in ("dequant_gemm", "grouped_gemm"):
        near = unwritten(torch.empty(2, n))
        for given, out in (
            (
                CMatrix(far_x.ctypes.data, DTYPES[dtype], 2, k, STRIDE, 1),
                CMatrix(far_out.ctypes.data, 0, 2, n, STRIDE, 1),
            ),
            (device.matrix(), near.matrix()),
        ):
            args = CGrouped(x=given, w=weight.c, m=2, n=n, k=k, out=out, offs=offs.pointer, experts=1)
            with emulator.mapped(*x_rows, *out_rows), on("80"):
                assert not Call(0).run(f"lowbit_cuda_{op}", args)
        assert torch.equal(values_of(out_rows, torch.float32), near.get())
        for row in out_rows:
            row[:] = 255


@pytest.mark.parametrize("layout", ["canonical", "mma64"])
def test_experts_far_apart(layout: str) -> None:
    """Codes, scales and biases of two experts."""
    m, n, k = 40, 24, 128
    rng = np.random.default_rng(7)
    experts = [operand(rng, "int4:g64", n, k, layout=layout) for _ in range(2)]
    bias = torch.from_numpy(rng.standard_normal((2, n)).astype(np.float32))
    x, offs = operand(rng, "int8:row", m, k, layout="plain"), Device(torch.tensor([17, m], dtype=torch.int32))
    codes, code_rows = far_rows(torch.stack([w.codes.flatten() for w in experts]))
    scales, scale_rows = far_rows(torch.stack([w.scale.flatten() for w in experts]))
    biases, bias_rows = far_rows(bias)
    weight, given, out = Weight(experts[0], n, k), Weight(x, m, k), unwritten(torch.empty(m, n))
    weight.c.codes.data, weight.c.scale.data = codes.ctypes.data, scales.ctypes.data
    args = CGrouped(w=weight.c, m=m, n=n, k=k, bias=biases.ctypes.data, out=out.matrix(), offs=offs.pointer, experts=2)
    args.xq = ctypes.pointer(given.c)
    args.w_step, args.w_scale_step, args.bias_step = experts[0].codes.element_size() * STRIDE, 4 * STRIDE, 4 * STRIDE
    with emulator.mapped(*code_rows, *scale_rows, *bias_rows), on("80"):
        assert not Call(0).run("lowbit_cuda_grouped_gemm", args)
    got = out.get().numpy()
    for w, b, part in zip(experts, bias.numpy(), (slice(0, 17), slice(17, m)), strict=True):
        assert np.array_equal(got[part], oracle.integer_path(x.matrix, w.matrix, b)[part])


@pytest.mark.parametrize("op", ["unpack", "prepack"])
def test_planes_far_apart(op: str) -> None:
    """Planes, and in each of them rows, more than 2^31 words apart."""
    rows, cols = 3, 256
    codes = torch.randint(8, (rows, cols), generator=torch.Generator().manual_seed(8)).to(torch.uint8)
    packed = ops.pack(codes, "int3")
    memory, pieces = far_rows(packed.flatten(0, 1))
    like = codes if op == "unpack" else ops.prepack(packed, "int3", cols, layout="mma64")
    out = unwritten(like)
    far = CCodes(memory.ctypes.data, b"int3", None, LAYOUTS["canonical"], rows, cols, STRIDE, rows * STRIDE)
    to = ctypes.c_int64(-1 if op == "unpack" else LAYOUTS["mma64"])
    with emulator.mapped(*pieces), on("80"):
        assert not Call(0).run(f"lowbit_cuda_{op}", far, to, ctypes.c_void_p(out.pointer))
    assert torch.equal(out.get(), like)


def test_more_rows_than_a_grid_dimension_has_tiles() -> None:
    """grouped_gemm of 65,536 tiles of 64 rows, all but the first past the last expert; x is 4 GB."""
    m, n, k, used = 65536 * 64, 1, 512, 40
    rng = np.random.default_rng(1)
    w = operand(rng, "int4:row", n, k, layout="mma64")
    x = torch.randn(used, k, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    memory, out = sparse(2 * m * k), np.zeros(4 * m, np.uint8)
    memory[: 2 * used * k] = x.view(torch.uint8).numpy().reshape(-1)
    weight, offs = Weight(w, n, k), Device(torch.tensor([used], dtype=torch.int32))
    args = CGrouped(w=weight.c, m=m, n=n, k=k, offs=offs.pointer, experts=1)
    args.x, args.out = CMatrix(memory.ctypes.data, 1, m, k, k, 1), CMatrix(out.ctypes.data, 0, m, n, n, 1)
    with emulator.mapped(memory[: 2 * used * k], out), on("80"):
        assert not Call(0).run("lowbit_cuda_grouped_gemm", args)
    got = torch.from_numpy(out.view(np.float32))
    near = unwritten(torch.empty(used, n))
    args.m = used
    kept = Device(x)
    args.x, args.out = kept.matrix(), near.matrix()
    with on("80"):
        assert not Call(0).run("lowbit_cuda_grouped_gemm", args)
    assert torch.equal(got[:used], near.get()[:, 0])
    assert not got[used:].any()


def test_product_of_rows_far_apart() -> None:
    """Rows of x, w and out more than 2^31 elements apart."""
    k = 64
    rng = np.random.default_rng(2)
    x, w = operand(rng, "int8:row", 2, k, layout="plain"), operand(rng, "int8:row", 2, k, layout="plain")
    far_x, far_w, far_out = (sparse(size * STRIDE + 4096) for size in (1, 1, 4))
    rows = []
    for memory, o in ((far_x, x), (far_w, w)):
        for r in range(2):
            rows.append(memory[STRIDE * r : STRIDE * r + k])
            rows[-1][:] = o.codes[r].numpy()
    outs = [far_out[4 * STRIDE * r : 4 * STRIDE * r + 8] for r in range(2)]
    for few in (True, False):
        at_x, at_w = Weight(x, 2, k), Weight(w, 2, k)
        at_x.c.codes.data, at_x.c.codes.row_stride = far_x.ctypes.data, STRIDE
        at_w.c.codes.data, at_w.c.codes.row_stride = far_w.ctypes.data, STRIDE
        offs = Device(torch.tensor([2], dtype=torch.int32))
        args = CGrouped(w=at_w.c, m=2, n=2, k=k, offs=offs.pointer, experts=1)
        args.xq = ctypes.pointer(at_x.c)
        args.out = CMatrix(far_out.ctypes.data, 0, 2, 2, STRIDE, 1)
        with emulator.mapped(*rows, *outs), on("80"):
            assert not Call(0).run("lowbit_cuda_scaled_gemm" if few else "lowbit_cuda_grouped_gemm", args)
        got = np.stack([o.view(np.float32) for o in outs])
        assert np.array_equal(got, oracle.integer_path(x.matrix, w.matrix))
        for o in outs:
            o[:] = 255


def test_dequantize_of_rows_far_apart() -> None:
    """Rows of 2^26 of them: planes, scales and rows of out more than 2^31 elements apart."""
    k, many, ids = 1024, 2**26 + 5, [0, 2**26 + 4, 2**26 - 1]
    x = torch.randn(3, k, generator=torch.Generator().manual_seed(3))
    near_codes, near_scale, _, _ = ops.quantize(x, "int4:g32")
    words, groups = k // 32, k // 32
    codes, scales, outs = sparse(16 * many * words), sparse(4 * many * groups), sparse(6 * STRIDE)
    pieces = []
    for i, r in enumerate(ids):
        for plane in range(4):
            at = 4 * (plane * many + r) * words
            pieces.append(codes[at : at + 4 * words])
            pieces[-1][:] = near_codes[plane, i].view(torch.uint8).numpy()
        pieces.append(scales[4 * r * groups : 4 * (r + 1) * groups])
        pieces[-1][:] = near_scale[i].view(torch.uint8).numpy()
    got = [outs[2 * STRIDE * i : 2 * STRIDE * i + 2 * k] for i in range(3)]
    none = CValues(None, 0)
    weight = CWeight(b"int4:g32", None, codes.ctypes.data, CValues(scales.ctypes.data, 0), none, none, none, many, k, 0)
    chosen = Device(torch.tensor(ids))
    out = CMatrix(outs.ctypes.data, 1, 3, k, STRIDE, 1)
    args = CDequantize(weight, chosen.pointer, out, None, None, None, 0, None, None, None, 0, 0, 0)
    with emulator.mapped(*pieces, *got), on("90"):
        assert not Call(0).run("lowbit_cuda_dequantize", args)
    want = ops.dequantize(near_codes, near_scale, None, "int4:g32", k).to(torch.bfloat16)
    assert torch.equal(torch.stack([torch.from_numpy(row.view(np.int16)) for row in got]).view(torch.bfloat16), want)


def test_stochastic_round_of_rows_far_apart() -> None:
    """Bits are drawn by the position in the logical tensor, not in memory."""
    x = torch.randn(3, 256, generator=torch.Generator().manual_seed(4)).to(torch.bfloat16)
    far_x, far_out = sparse(6 * STRIDE), sparse(6 * STRIDE)
    rows = [far_x[2 * STRIDE * r : 2 * STRIDE * r + 512] for r in range(3)]
    outs = [far_out[2 * STRIDE * r : 2 * STRIDE * r + 512] for r in range(3)]
    for r in range(3):
        rows[r][:] = x[r].view(torch.uint8).numpy()
    matrices = [CMatrix(memory.ctypes.data, 1, 3, 256, STRIDE, 1) for memory in (far_x, far_out)]
    with emulator.mapped(*rows, *outs), on("90"):
        call = Call(0)
        assert not call.run("lowbit_cuda_stochastic_round", *matrices, b"int4", ctypes.c_int64(7), ctypes.c_int64(9))
    got = torch.stack([torch.from_numpy(row.view(np.int16)) for row in outs]).view(torch.bfloat16)
    assert torch.equal(got, ops.stochastic_round(x, "int4", torch.tensor([7, 9])))


@pytest.mark.parametrize("rescale", [False, True])
def test_update_of_rows_far_apart(rescale: bool) -> None:
    """Rows of dw far apart, of a part of a tensor whose first element is number 2^40."""
    k, first = 256, 2**32
    generator = torch.Generator().manual_seed(5)
    codes, scale, _, _ = ops.quantize(torch.randn(2, k, generator=generator), "int4:g64")
    dw = 0.1 * torch.randn(2, k, generator=generator)
    want_codes, want_scale = codes.clone(), scale.clone()
    # eight elements to a counter
    drawn = torch.tensor([7, 9 + first * k // 8])
    ops.stochastic_round_update_(want_codes, want_scale, None, dw, "int4:g64", drawn, rescale=rescale)
    far = sparse(8 * STRIDE)
    rows = [far[4 * STRIDE * r : 4 * STRIDE * r + 4 * k] for r in range(2)]
    for r in range(2):
        rows[r][:] = dw[r].view(torch.uint8).numpy()
    w, scales, none = Device(codes), Device(scale), CValues(None, 0)
    weight = CWeight(b"int4:g64", None, w.pointer, scales.values(), none, none, none, 2, k, 0)
    args = CUpdate(weight, CMatrix(far.ctypes.data, 0, 2, k, STRIDE, 1), none, none, 7, 9, first, int(rescale))
    if rescale:
        new = unwritten(scale)
        args.new_scale = new.values()
    with emulator.mapped(*rows), on("90"):
        size = workspace("lowbit_cuda_update_workspace", args)
        assert not Call(size).run("lowbit_cuda_update", args)
    assert torch.equal(w.get(), want_codes)
    if rescale:
        assert torch.equal(new.get(), want_scale)
