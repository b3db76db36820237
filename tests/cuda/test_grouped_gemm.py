"""grouped_gemm and its gradient on CUDA, on the emulator: one launch for all experts gives the bits of the CPU on
integer paths, a sum within the bound on float paths, and the bits of every expert's own call."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest
import torch
from compare import assert_bits
from cuda import kernels
from cuda.gemms import gemm
from cuda.test_gemm_stripes import LONG, alike
from cuda.test_input_grad import bound, exact_values, gradients, input_grad
from cuda.weights import CGrouped, Weight
from operands import Operand, operand
from oracle import gemm as oracle
from torch import Tensor

OPS = torch.ops.lowbit
OFFS = [[0, 5, 70, 131], [131, 131, 131, 131], [0, 0, 0, 0], [1, 2, 3, 100], [64, 128, 128, 131]]
ROWS, K, N = 131, 100, 41


def experts(
    rng: np.random.Generator, format: str, layout: str, count: int = 4, **more: str
) -> tuple[list[Operand], Operand]:
    """Some experts, and all of them in one."""
    each = [operand(rng, format, N, K, layout=layout, **more) for _ in range(count)]

    def stacked(name: str) -> Tensor | None:
        parts = [getattr(w, name) for w in each]
        return None if parts[0] is None else torch.stack(parts)

    fields = ("codes", "scale", "zero", "scale2")
    return each, replace(each[0], **{name: stacked(name) for name in fields})


def step(t: Tensor | None) -> int:
    return 0 if t is None else t.stride(0) * t.element_size()


def arguments(w: Operand, weight: Weight, offs: kernels.Device, m: int) -> CGrouped:
    return CGrouped(
        w=weight.c, m=m, n=N, k=K, offs=offs.pointer, experts=len(w.codes), w_step=step(w.codes),
        w_scale_step=step(w.scale), w_second_step=step(w.scale2), w_zero_step=step(w.zero),
    )  # fmt: skip


def grouped_gemm(w: Operand, offs: list[int], x: Operand | Tensor, bias: Tensor | None = None) -> Tensor:
    """The output; rows past the last expert keep what was there, sevens."""
    weight, ends = Weight(w, N, K), kernels.Device(torch.tensor(offs, dtype=torch.int32))
    out = kernels.Device(torch.full((ROWS, N), 7.0))
    args = arguments(w, weight, ends, ROWS)
    args.out = out.matrix()
    if isinstance(x, Tensor):
        kept = kernels.Device(x)
        args.x = kept.matrix()
    else:
        kept = Weight(x, ROWS, K)
        args.xq = ctypes.pointer(kept.c)
    if bias is not None:
        on_device = kernels.Device(bias)
        args.bias, args.bias_dtype, args.bias_step = on_device.pointer, kernels.DTYPES[bias.dtype], step(bias)
    assert not kernels.Call(0).run("lowbit_cuda_grouped_gemm", args)
    return out.get()


def grouped_input_grad(w: Operand, offs: list[int], dy: Tensor) -> Tensor:
    weight, ends = Weight(w, N, K), kernels.Device(torch.tensor(offs, dtype=torch.int32))
    given, out = kernels.Device(dy), kernels.Device(torch.full((ROWS, K), 7.0))
    args = arguments(w, weight, ends, ROWS)
    args.x, args.out = given.matrix(), out.matrix()
    assert not kernels.Call(0).run("lowbit_cuda_grouped_gemm_input_grad", args)
    return out.get()


@pytest.mark.parametrize("layout", ["canonical", "mma64"])
@pytest.mark.parametrize("format", ["int4:g32", "uint4:row"])
def test_integer_experts_have_the_bits_of_the_cpu(format, layout):
    rng = np.random.default_rng(0)
    _, w = experts(rng, format, layout, zero="int" if format[0] == "u" else None)
    x = operand(rng, "int8:row", ROWS, K, layout="plain")
    bias = torch.from_numpy(rng.standard_normal((4, N)).astype(np.float32))
    with kernels.on():
        for offs in OFFS:
            end = offs[-1]
            got = kernels.twice(lambda offs=offs: grouped_gemm(w, offs, x, bias))
            want = OPS.grouped_gemm(
                x.codes[:end], w.codes, w.scale, w.zero, torch.tensor(offs, dtype=torch.int32), w.format,
                x_scale=x.scale[:end], x_format=x.format, bias=bias, k=K,
            )  # fmt: skip
            assert torch.equal(got[:end], want)
            assert torch.equal(got[end:], torch.full_like(got[end:], 7.0))


def test_segments_that_int32_does_not_hold():
    """As test_long_segments of test_gemm_stripes.py, for two experts: their parts go through the workspace."""
    m, n, k = 20, 3, LONG
    x, w = alike("int8:row@plain", m, k, 128, -128.0), alike("uint4:row@mma64", n, k, 0, 0.0, 255)
    both = replace(
        w, codes=torch.stack([w.codes] * 2), scale=torch.stack([w.scale, -w.scale]), zero=torch.stack([w.zero] * 2)
    )
    weight, given = Weight(both, n, k), Weight(x, m, k)
    ends, out = kernels.Device(torch.tensor([17, m], dtype=torch.int32)), kernels.unwritten(torch.empty(m, n))
    args = CGrouped(
        w=weight.c, xq=ctypes.pointer(given.c), m=m, n=n, k=k, out=out.matrix(), offs=ends.pointer, experts=2,
        w_step=step(both.codes), w_scale_step=step(both.scale), w_zero_step=step(both.zero),
    )  # fmt: skip
    with kernels.on():
        with pytest.raises(kernels.KernelError, match=r"grouped_gemm: workspace must have \d+ bytes, got 0; ask the"):
            kernels.Call(0).run("lowbit_cuda_grouped_gemm", args)
        workspace = kernels.workspace("lowbit_cuda_grouped_gemm_workspace", args)
        kernels.Call(workspace).run("lowbit_cuda_grouped_gemm", args)
    want = oracle.integer_path(x.matrix, w.matrix)
    want[17:] *= -1
    assert_bits(out.get(), want)


@pytest.mark.parametrize("offs", [
    [2 * e for e in range(1, 66)],  # more experts than lanes of a warp, each with rows
    [0] * 40 + [70] * 24 + [131],  # of which few have any
    [131] * 65, [-5, 3, 2, 70, 1, 65, 500] + [7] * 58,
])  # fmt: skip
def test_many_experts(offs):
    """Ends that descend or lie outside are those of no rows, or end with x."""
    rng = np.random.default_rng(4)
    _, w = experts(rng, "int4:row", "mma64", len(offs))
    x = operand(rng, "int8:row", ROWS, K, layout="plain")
    ends = np.clip(np.maximum.accumulate(offs), 0, ROWS).tolist()
    with kernels.on("80"):
        got = grouped_gemm(w, offs, x)
    want = OPS.grouped_gemm(
        x.codes[: ends[-1]], w.codes, w.scale, None, torch.tensor(ends, dtype=torch.int32), w.format,
        x_scale=x.scale[: ends[-1]], x_format=x.format, k=K,
    )  # fmt: skip
    assert torch.equal(got[: ends[-1]], want)
    assert torch.equal(got[ends[-1] :], torch.full_like(got[ends[-1] :], 7.0))


@pytest.mark.parametrize("format", ["nf4:g32", "uint4:g32"])
def test_three_terms_in_99_kilobytes(format):
    """Codebooks and int32 zero points by fp32 rows: one stage is all that fits, and the bits are those of each expert's
    own product on a device with more."""
    rng = np.random.default_rng(5)
    each, w = experts(rng, format, "canonical", zero="int" if format[0] == "u" else None)
    x = gradients(rng, ROWS, K, torch.float32)
    offs = [0, 5, 70, 131]
    with kernels.on("86"):
        got = grouped_gemm(w, offs, x)
    for own, (begin, end) in zip(each, zip([0, *offs], offs, strict=False), strict=True):
        if begin < end:
            assert torch.equal(got[begin:end], gemm("dequant_gemm", x[begin:end], own, N, K, "80"))


@pytest.mark.parametrize("model", kernels.MODELS)
@pytest.mark.parametrize(
    ("layout", "dtype", "zero_dtype"),
    [("canonical", torch.float32, torch.uint8), ("mma64", torch.float32, torch.uint8),
     ("canonical", torch.bfloat16, torch.int32)],
)  # fmt: skip
def test_float_experts(layout, dtype, zero_dtype, model):
    rng = np.random.default_rng(1)
    each, w = experts(rng, "uint4:g32", layout, zero="int")
    w = replace(w, zero=w.zero.to(zero_dtype))
    x = gradients(rng, ROWS, K, dtype)
    with kernels.on(mma=model):
        for offs in OFFS:
            got = kernels.twice(lambda offs=offs: grouped_gemm(w, offs, x)).double().numpy()
            for e, (begin, end) in enumerate(zip([0, *offs], offs, strict=False)):
                rows, values = x[begin:end].double().numpy(), exact_values(each[e].matrix).T
                # beside what dX has, each of the segments is joined by one multiply-add
                magnitude = np.abs(rows) @ (np.abs(values) + 15 * each[e].matrix.scale.T)
                error = np.abs(got[begin:end] - rows @ values)
                assert np.all(error <= bound(magnitude, K, torch.float32) + 8 * 2.0**-23 * magnitude)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("format", "layout"), [("int4:g32", "canonical"), ("nvfp4", "canonical"), ("uint3:g16", "mma64"), ("int8", "plain")]
)
def test_gradients_have_the_bits_of_every_expert_alone(format, layout, dtype):
    rng = np.random.default_rng(2)
    each, w = experts(rng, format, layout, zero="float" if format[0] == "u" else None)
    dy = gradients(rng, ROWS, N, dtype)
    with kernels.on(mma="hardware"):
        for offs in OFFS:
            got = kernels.twice(lambda offs=offs: grouped_input_grad(w, offs, dy))
            for e, (begin, end) in enumerate(zip([0, *offs], offs, strict=False)):
                own = input_grad(dy[begin:end], each[e], K, torch.empty(end - begin, K))
                assert torch.equal(got[begin:end], own)
            assert torch.equal(got[offs[-1] :], torch.full_like(got[offs[-1] :], 7.0))


def test_what_no_expert_has():
    rng = np.random.default_rng(3)
    _, w = experts(rng, "int4:g32", "canonical")
    with kernels.on():
        weight = Weight(w, N, K)
        given = kernels.Device(torch.zeros(ROWS, N))
        args = arguments(w, weight, given, ROWS)
        args.w.offsets = given.pointer
        for op in ("grouped_gemm", "grouped_gemm_input_grad"):
            with pytest.raises(kernels.KernelError, match=f"{op}: w must have one width and no outliers, got outliers"):
                kernels.Call(0).run(f"lowbit_cuda_{op}", args)
        args.w.offsets, args.offs = None, None
        with pytest.raises(kernels.KernelError, match="grouped_gemm: offs must have 4 ends of rows, got none"):
            kernels.Call(0).run("lowbit_cuda_grouped_gemm", args)
