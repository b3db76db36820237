"""The kernels of every ISA against the reference, bit for bit: quantize, dequantize and stochastic rounding on shapes
around their blocking (16 lanes, 64 bytes, runs of 512, spans of 4096), on values that are hard to round; and which ran.
"""

from collections.abc import Callable, Iterator

import lowbit  # noqa: F401
import lowbit._C as _C
import pytest
import torch
from compare import vectors_of

ops = torch.ops.lowbit
SEED = torch.tensor([11, 2**35 + 7])
FORMATS = ["int8", "int4:g32", "int3:g48", "uint4:g64", "ternary:g128", "bipolar2:g100", "int8:g5", "int4:tensor",
           "int2:b16x512", "float8_e4m3fn", "float8_e5m2:g16", "float6_e3m2fn:g4096", "float4_e2m1fn:g17",
           "float7_e6m0fn:g64", "nf4:g64", "mxfp8_e4m3", "mxfp6_e2m3", "mxfp4", "mxint8", "nvfp4", "nvint4",
           "uint2:g16/uint4:g16"]  # fmt: skip
SHAPES = [(1, 1), (3, 15), (2, 63), (2, 64), (17, 65), (2, 511), (2, 513), (1, 4095), (3, 4097), (2, 9001)]


@pytest.fixture(params=[name for name in _C.isa_list() if name != "ref"])
def tuned(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every ISA that has kernels of its own."""
    before = _C.isa()
    _C.force_isa(request.param)
    yield request.param
    _C.force_isa(before)


def with_reference(call: Callable[[], list[torch.Tensor]], isa: str) -> tuple[list, list]:
    here = call()
    _C.force_isa("ref")
    there = call()
    _C.force_isa(isa)
    return here, there


def hard(rows: int, cols: int, seed: int) -> torch.Tensor:
    """Values over many magnitudes, quarters (ties once scaled by powers of two), zeros, denormals."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, cols, generator=g) * torch.exp2(torch.randint(-8, 8, (rows, cols), generator=g).float())
    kind = torch.rand(rows, cols, generator=g)
    x = torch.where(kind < 0.3, (x * 4).round() / 4, x)
    x = torch.where(kind > 0.95, x * 2.0**-140, x)
    return torch.where(kind < 0.05, torch.zeros(()), x)


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("layout", ["canonical", "plain"])
def test_quantize_has_the_bits_of_the_reference(tuned, format, layout):
    asymmetric = format.startswith("uint")
    for i, shape in enumerate(SHAPES):
        x = hard(*shape, i).to((torch.float32, torch.bfloat16, torch.float16)[i % 3])
        for kwargs in [{}, {"rounding": "stochastic", "seed": SEED}]:
            kwargs |= {"layout": layout, "asymmetric": asymmetric}
            here, there = with_reference(lambda x=x, k=kwargs: ops.quantize(x, format, **k), tuned)
            assert same(here, there), (shape, kwargs)


@pytest.mark.parametrize(
    "format",
    ["int8:g128", "int4:g64", "uint4:g32", "float8_e4m3fn:row", "float4_e2m1fn:g32", "nf4:g64", "mxfp4", "nvfp4"],
)
@pytest.mark.parametrize("power", [-130, -75, -40, 0, 40, 70])
def test_quotients_are_rounded_as_those_of_a_division(tuned, format, power):
    """Halves and quarters of steps of scales with many bits, -0, and scales on both sides of what reciprocals serve."""
    g = torch.Generator().manual_seed(power)
    steps = torch.randint(-60, 61, (6, 2048), generator=g) / 4
    x = steps * torch.rand(6, 1, generator=g).exp() * 2.0**power
    x = torch.where(torch.rand(6, 2048, generator=g) < 0.05, torch.tensor(-0.0), x)
    x[:, ::512] *= 1 + 2.0**-20
    for kwargs in [{}, {"rounding": "stochastic", "seed": SEED}]:
        kwargs |= {"asymmetric": format.startswith("uint")}
        here, there = with_reference(lambda k=kwargs: ops.quantize(x, format, **k), tuned)
        assert same(here, there), kwargs


def test_results_past_the_caches_are_the_same(tuned):
    """From 32 MiB on results are streamed: the same as row by row, where lines begin at rows and where they do not."""
    x = torch.randn(2051, 4096, generator=torch.Generator().manual_seed(0))
    codes, scale, *_ = ops.quantize(x, "int8:g128")
    whole = ops.dequantize(codes, scale, None, "int8:g128", 4096)
    some = slice(1000, 1020)
    of_some = ops.quantize(x[some], "int8:g128")
    assert torch.equal(ops.dequantize(of_some[0], of_some[1], None, "int8:g128", 4096), whole[some])
    for out in (
        torch.empty(2051, 4096),
        torch.empty(2051, 4097)[:, 1:],
        torch.empty(2051 * 4096 + 1)[1:].view(2051, -1),
    ):
        for block in (64, 4096):
            torch.ops.lowbit.hadamard.out(x, block=block, out=out)
            assert torch.equal(out[some], torch.ops.lowbit.hadamard(x[some], block=block))
            assert torch.equal(out[-1:], torch.ops.lowbit.hadamard(x[-1:], block=block))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("layout", ["canonical", "plain", "tile16", "mma64"])
def test_dequantize_has_the_bits_of_the_reference(tuned, format, layout):
    if layout in ("tile16", "mma64") and format in ("int2:b16x512", "int4:tensor"):
        layout = "canonical"  # rows that share scales must fill their tiles
    asymmetric = format.startswith("uint")
    for i, shape in enumerate(SHAPES):
        codes, *rest = ops.quantize(hard(*shape, i), format, layout=layout, asymmetric=asymmetric)
        scale, zero, scale2 = (t if t.numel() else None for t in rest)
        dtype = (torch.float32, torch.bfloat16, torch.float16)[i % 3]
        args = (codes, scale, zero, f"{format}@{layout}", shape[1])
        here, there = with_reference(
            lambda a=args, s=scale2, d=dtype: [ops.dequantize(*a, scale2=s, out_dtype=d)], tuned
        )
        assert same(here, there), shape


ROUNDED = ["int8", "int3", "uint5", "bipolar3", "ternary", "float8_e4m3fn", "float8_e5m2", "float6_e2m3fn",
           "float4_e2m1fn", "float7_e6m0fn", "bfloat16", "float16", "nf4"]  # fmt: skip


@pytest.mark.parametrize("format", ROUNDED)
def test_stochastic_round_has_the_bits_of_the_reference(tuned, format):
    for i, shape in enumerate(SHAPES):
        x = hard(*shape, i)
        for view in (x, x.t().contiguous().t(), x.half()):
            here, there = with_reference(lambda v=view: [ops.stochastic_round(v, format, SEED)], tuned)
            assert same(here, there), shape
    values = torch.tensor([float("inf"), -float("inf"), 3e38, -3e38, 65519.0, 1e-45, -0.0]).repeat(9)
    here, there = with_reference(lambda: [ops.stochastic_round(values, format, SEED).view(torch.uint8)], tuned)
    assert same(here, there)


@pytest.mark.parametrize("format", ["int8:g5", "int4:g32", "uint4:g64", "bipolar2:g100", "float6_e2m3fn:g48"])
@pytest.mark.parametrize("rescale", [False, True])
def test_update_has_the_bits_of_the_reference(tuned, format, rescale):
    asymmetric = format.startswith("uint")
    for i, shape in enumerate(SHAPES):
        dw = 0.1 * hard(*shape, i + 100)

        def call(shape=shape, i=i, dw=dw):
            codes, scale, zero, _ = ops.quantize(hard(*shape, i), format, asymmetric=asymmetric)
            zero = zero if asymmetric else None
            ops.stochastic_round_update_(codes, scale, zero, dw, format, SEED, rescale=rescale)
            return [codes, scale] + ([zero] if asymmetric else [])

        here, there = with_reference(call, tuned)
        assert same(here, there), shape


def test_quotients_at_the_edge_of_float32(tuned):
    """x / scale overflows: the code saturates, or is infinity where the format has it."""
    x, scale = torch.tensor([[3e38, -3e38, 1e30, 0.0] * 9]), torch.tensor([[1e-3]])
    for format in ["int8", "uint4", "bipolar3", "float8_e4m3fn", "float8_e5m2", "float8_e3m4", "nf4"]:
        here, there = with_reference(lambda f=format: [ops.quantize(x, f, scale=scale)[0]], tuned)
        assert same(here, there)


def test_the_code_of_this_isa_ran(isa):
    x = torch.randn(4, 128)
    codes, scale, _, _ = ops.quantize(x, "int8", layout="plain")
    assert _C.last_kernel() == f"quantize:{vectors_of(isa)}"
    ops.dequantize(codes, scale, None, "int8", 128)
    assert _C.last_kernel() == f"dequantize:{vectors_of(isa)}"
    ops.embedding(torch.tensor([1]), codes, scale, None, "int8", 128)
    assert _C.last_kernel() == f"dequantize:{vectors_of(isa)}"
    ops.quantize(x, "nf4:g64", rounding="stochastic", seed=SEED)
    assert _C.last_kernel() == f"quantize:{vectors_of(isa)}"
    ops.stochastic_round(x, "bfloat16", SEED)
    assert _C.last_kernel() == f"stochastic_round:{vectors_of(isa)}"
    codes, scale, _, _ = ops.quantize(x, "int8")
    ops.stochastic_round_update_(codes, scale, None, x, "int8", SEED)
    assert _C.last_kernel() == f"stochastic_round_update_:{vectors_of(isa)}"
