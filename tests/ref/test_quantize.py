"""Every format and block rule of quantize and dequantize against the NumPy oracle, bit for bit, on every ISA."""

import lowbit  # noqa: F401
import numpy as np
import pytest
import torch
from oracle import formats, layouts
from oracle import quantize as oracle
from oracle import stochastic_round as sr

ops = torch.ops.lowbit

ELEMENTS = [n for n in formats.NAMES if n not in ("complex2", *formats.CODEBOOKS)]
BLOCKS = ["tensor", "row", "g5", "g32", "b3x7"]
SCALED = [
    *oracle.NAMED,
    "uint2:g16/uint4:g16",
    "int4:g8/uint4:g2",
    "uint4:g32/float8_e4m3fn:tensor",
    "int3:b2x8/int8:row",
    "nf4:g16/float8_e5m2:tensor",
    "float4_e2m1fn:g8/float8_e4m3fn",
    "int5:g8/nf4:g4",
    "int4:g16/float8_e8m0fnu",
]


def data(rows: int, cols: int, seed: int = 0) -> np.ndarray:
    """Blocks of very different size, ties, zeros, a block of zeros."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, cols)) * np.exp(rng.normal(0, 2, (rows, 1))) * np.exp2(rng.integers(-3, 3, cols))
    x[rng.random((rows, cols)) < 0.1] = 0
    x[rows // 2, : cols // 2] = 0
    x[-1] = np.round(x[-1] * 4) / 4
    return x.astype(np.float32)


def table_of(element: str) -> np.ndarray | None:
    if not element.startswith("table"):
        return None
    rng = np.random.default_rng(3)
    return np.sort(rng.standard_normal(2 ** formats.bits_of(element))).astype(np.float32)


def plain(codes: torch.Tensor, spec: str, k: int) -> np.ndarray:
    """Codes as unsigned bytes [rows, k], from the canonical layout by the layout oracle."""
    element = oracle.spec(spec).element
    bits = formats.bits_of(element)
    packed = codes.numpy()
    if packed.dtype == np.int32:
        columns = np.arange(k)
        words = packed.view(np.uint32)[:, :, columns // 32] >> (columns % 32).astype(np.uint32) & 1
        return (words << np.arange(bits - 1, -1, -1, dtype=np.uint32)[:, None, None]).sum(0).astype(np.uint8)
    every = ops.unpack(codes, element, k).numpy()
    pack = {8: lambda c: c, 6: layouts.packed6, 4: layouts.nibbles}[bits]
    np.testing.assert_array_equal(pack(every), packed)
    return every


def check(x: np.ndarray, spec: str, dtype="float32", asymmetric=False, **kwargs) -> None:
    element, k = oracle.spec(spec).element, x.shape[1]
    table = table_of(element)
    want = oracle.quantize(x, spec, dtype, asymmetric, table)
    tensor = torch.from_numpy(table) if table is not None else None
    codes, scale, zero, scale2 = ops.quantize(
        torch.from_numpy(x), spec, asymmetric=asymmetric, scale_dtype=getattr(torch, dtype), table=tensor, **kwargs
    )
    if oracle.spec(spec).scale is None:
        np.testing.assert_array_equal(scale.float().numpy(), want.scale)
    else:
        np.testing.assert_array_equal(plain(scale, oracle.spec(spec).scale, want.scale.shape[1]), want.scale)
    if want.scale2 is not None:
        np.testing.assert_array_equal(scale2.float().numpy(), want.scale2)
    if asymmetric:
        np.testing.assert_array_equal(zero.numpy(), want.zero)
    np.testing.assert_array_equal(plain(codes, spec, k), want.codes)
    values = ops.dequantize(
        codes, scale, zero if asymmetric else None, spec, k, scale2=scale2 if scale2.numel() else None, table=tensor
    )
    want_values = oracle.dequantize(want.codes, want.divisor, want.zero, oracle.spec(spec), table)
    np.testing.assert_array_equal(values.numpy(), want_values)


@pytest.mark.parametrize("element", ELEMENTS)
def test_every_element_format(isa, element):
    for block, shape in [("row", (3, 70)), ("g32", (4, 129)), ("g7", (2, 20))]:
        x = data(*shape)
        check(np.abs(x) if element == "float8_e8m0fnu" else x, f"{element}:{block}")


@pytest.mark.parametrize("element", formats.CODEBOOKS)
def test_every_codebook(isa, element):
    check(data(3, 67), f"{element}:g32")
    check(data(3, 67), element)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("element", ["int8", "int4", "bipolar3", "ternary", "float8_e4m3fn", "float6_e3m2fn", "nf4"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_block_rule_and_scale_dtype(isa, block, element, dtype):
    check(data(7, 37, 1), f"{element}:{block}", dtype)
    check(data(1, 1), f"{element}:{block}", dtype)


@pytest.mark.parametrize("spec", SCALED)
def test_coded_scales(isa, spec):
    check(data(5, 100), spec)
    check(data(3, 33) * np.float32(2.0**-130), spec)
    check(data(3, 33) * np.float32(2.0**90), spec)


@pytest.mark.parametrize("bits", range(1, 9))
def test_asymmetric(isa, bits):
    for block in BLOCKS:
        for shift in (-3, 0, 3):
            check(data(6, 45, bits) + np.float32(shift), f"uint{bits}:{block}", asymmetric=True)
    check(data(6, 45), f"uint{bits}:g16", "float16", asymmetric=True)


@pytest.mark.parametrize("spec", ["uint2:g16/uint4:g16", "uint4:g32/float8_e4m3fn:tensor", "uint4:g32/float8_e8m0fnu"])
def test_asymmetric_with_coded_scales(isa, spec):
    check(data(6, 70), spec, asymmetric=True)


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 128, 1024, 4096])
@pytest.mark.parametrize("spec", ["int8", "int4:g32", "mxfp4", "nvfp4", "float8_e4m3fn:b2x64"])
def test_fused_hadamard(isa, size, spec):
    x = data(3, 3 * size if size < 1024 else size)
    want = oracle.quantize(oracle.hadamard(x, size), spec)
    codes, scale, _, _ = ops.quantize(torch.from_numpy(x), spec, hadamard=size)
    np.testing.assert_array_equal(plain(codes, spec, x.shape[1]), want.codes)
    if oracle.spec(spec).scale is None:
        np.testing.assert_array_equal(scale.numpy(), want.scale)


@pytest.mark.parametrize("element", ELEMENTS)
def test_stochastic(isa, element):
    x = np.abs(data(5, 77)) if element.endswith("fnu") else data(5, 77)
    spec, seed, offset = f"{element}:g16", 0x123456789ABCDEF, 77
    bits = sr.random_bits(seed, offset, x.size).reshape(x.shape)
    want = oracle.quantize(x, spec, encode=lambda y: sr.codes(element, y, bits))
    codes, scale, _, _ = ops.quantize(
        torch.from_numpy(x), spec, rounding="stochastic", seed=torch.tensor([seed, offset])
    )
    np.testing.assert_array_equal(scale.numpy(), want.scale)
    np.testing.assert_array_equal(plain(codes, spec, 77), want.codes)


@pytest.mark.parametrize("spec", ["int4:g8", "float8_e4m3fn:b2x8", "nf4"])
def test_stochastic_draws_by_position_in_the_whole_tensor(isa, spec):
    x, seed = torch.from_numpy(data(12, 40)), torch.tensor([3, 1])
    element = oracle.spec(spec).element
    whole = ops.quantize(x, spec, rounding="stochastic", seed=seed)[0]
    parts = ops.quantize(x.view(3, 4, 40), spec, rounding="stochastic", seed=seed)[0]
    assert torch.equal(ops.unpack(whole, element, 40), ops.unpack(parts, element, 40).view(12, 40))


@pytest.mark.parametrize("spec", ["complex2", "complex2:tensor", "complex2:g5", "complex2:b2x9"])
def test_complex(isa, spec):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((4, 21)) + 1j * rng.standard_normal((4, 21))).astype(np.complex64)
    x[0, :8] = [1 + 1j, -1 + 1j, -1 - 1j, 1 - 1j, 0, 1j, -1, -1j]  # the edges of the classes
    x[1] = np.abs(x[1].real)  # no imaginary class
    want = oracle.quantize_complex(x, spec)
    for given in (torch.from_numpy(x), torch.view_as_real(torch.from_numpy(x))):
        codes, scale, _, _ = ops.quantize(given, spec)
        np.testing.assert_array_equal(plain(codes, spec, 21), want.codes)
        np.testing.assert_array_equal(scale.numpy(), want.scale)
    values = torch.view_as_complex(ops.dequantize(codes, scale, None, spec, 21)).numpy()
    sides = [oracle.expand(s, oracle.spec(spec).block, 4, 21) for s in want.scale]
    want_values = formats.values("complex2")[want.codes]
    np.testing.assert_array_equal(values.real, want_values.real * sides[0])
    np.testing.assert_array_equal(values.imag, want_values.imag * sides[1])


@pytest.mark.parametrize("spec", ["int8:row", "int4:g32", "uint4:g16", "float8_e4m3fn:tensor", "nf4:g8", "uint8:b2x16"])
@pytest.mark.parametrize("zero_dtype", [None, torch.uint8, torch.int32, torch.float32])
def test_static_scales(isa, spec, zero_dtype):
    s = oracle.spec(spec)
    x, rng = data(5, 50), np.random.default_rng(1)
    shape = [-(-n // b) if b else 1 for n, b in zip(x.shape, s.block, strict=True)]
    scale = rng.uniform(0.01, 0.3, shape).astype(np.float32)
    scale.flat[0] = 0  # y = 0 there
    zero = None
    if zero_dtype is not None:
        zero = rng.integers(0, 15, shape).astype(np.float32) + (0.3 if zero_dtype == torch.float32 else 0)
        zero = zero.astype(np.float32)
    want = formats.encode(s.element, oracle.quotient(x, scale, zero, s))
    codes, *rest = ops.quantize(
        torch.from_numpy(x),
        spec,
        scale=torch.from_numpy(scale),
        zero=None if zero is None else torch.from_numpy(zero).to(zero_dtype),
    )
    np.testing.assert_array_equal(plain(codes, spec, 50), want)
    assert [t.numel() for t in rest] == [0, 0, 0]


def test_two_level_scales_given_again_give_the_same_codes(isa):
    x = torch.from_numpy(data(5, 70))
    for spec in ["nvfp4", "uint2:g16/uint4:g16", "mxfp4"]:
        codes, scale, _, scale2 = ops.quantize(x, spec)
        again = ops.quantize(x, spec, scale=scale, scale2=scale2 if scale2.numel() else None)[0]
        assert torch.equal(codes, again)


@pytest.mark.parametrize("spec", ["int8", "int4:g16", "ternary", "bipolar2", "float4_e2m1fn:g8", "float8_e5m2", "nf4"])
def test_plain_layout_holds_the_codes(isa, spec):
    x = data(5, 45)
    want = oracle.quantize(x, spec).codes
    codes = ops.quantize(torch.from_numpy(x), spec, layout="plain")[0]
    if codes.dtype == torch.int8:  # then the byte is the value
        np.testing.assert_array_equal(codes.numpy(), formats.values(oracle.spec(spec).element)[want])
    else:
        np.testing.assert_array_equal(codes.numpy(), want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("spec", ["int8", "int4:g32", "mxfp4", "float8_e4m3fn"])
def test_input_and_output_dtypes(isa, dtype, spec):
    x = torch.from_numpy(data(4, 70)).clamp(-1000, 1000).to(dtype)
    want = oracle.quantize(x.float().numpy(), spec)
    codes, scale, _, _ = ops.quantize(x, spec)
    np.testing.assert_array_equal(plain(codes, spec, 70), want.codes)
    values = oracle.dequantize(want.codes, want.divisor, None, oracle.spec(spec))
    got = ops.dequantize(codes, scale, None, spec, 70, out_dtype=dtype)
    assert torch.equal(got, torch.from_numpy(values).to(dtype))


def test_scales_that_would_be_zero_or_overflow(isa):
    tiny = torch.full((1, 32), 1e-9)
    codes, scale, _, _ = ops.quantize(tiny, "int8:g32", scale_dtype=torch.float16)
    assert scale.item() == 1
    assert codes.count_nonzero() == 0
    with pytest.raises(
        ValueError, match=r"x must be small enough for its scale, got a block of extent .* block \(1, 0\)"
    ):
        ops.quantize(torch.tensor([[1.0], [3e38]]), "int4:row", scale_dtype=torch.float16)
