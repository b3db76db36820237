"""Products of numbers that bf16 does not hold: activations in fp16 and values of tables. Tiles of bf16 multiply them as
exact sums of bf16 numbers; other engines as they are. Either way no bit of a factor may be lost, and infinities, NaN
and the bits of a row in any batch are those of the numbers themselves."""

import lowbit._C as _C
import numpy as np
import pytest
import torch
from compare import assert_near
from operands import operand
from oracle import gemm

OP = torch.ops.lowbit
FAST = [name for name in _C.isa_list() if name != "ref"]
PAIRS = [
    (torch.float16, "int4:g32"),
    (torch.float16, "uint3:g37"),
    (torch.float16, "float8_e4m3fn:row"),
    (torch.float16, "nf4:g64"),
    (torch.bfloat16, "nf4:g64"),
    (torch.bfloat16, "nf4:g37"),
    (torch.bfloat16, "table8:row"),
    (torch.bfloat16, "table3:g16"),
    (torch.float16, "table5:g96"),
]


@pytest.fixture(params=FAST)
def fast(request: pytest.FixtureRequest):
    before = _C.isa()
    _C.force_isa(request.param)
    yield request.param
    _C.force_isa(before)


def product(x: torch.Tensor, w, rows: slice = slice(None)) -> torch.Tensor:
    scale = torch.ones(len(w.matrix.values), 1) if w.scale is None else w.scale
    y = OP.dequant_gemm(x[rows], w.codes, scale, w.zero, w.format, w_table=w.table, out_dtype=torch.float32)
    assert _C.last_kernel() == f"dequant_gemm:{_C.isa()}"
    return y


def one_a_row(values: torch.Tensor, k: int) -> torch.Tensor:
    """Row i holds value i alone, in another column than its neighbours."""
    x = torch.zeros(len(values), k, dtype=values.dtype)
    x[torch.arange(len(values)), (7 * torch.arange(len(values)) + 3) % k] = values
    return x


@pytest.mark.parametrize("pair", PAIRS, ids=str)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 33, 129), (8, 64, 1000), (9, 150, 333), (17, 16, 31), (70, 130, 700)])
def test_sums_are_within_their_bound(fast: str, pair: tuple[torch.dtype, str], m: int, n: int, k: int) -> None:
    rng = np.random.default_rng(m)
    dtype, w_format = pair
    w = operand(rng, w_format, n, k, layout="tile16", zero="int" if w_format.startswith("uint") else None)
    x = torch.from_numpy(rng.standard_normal((m, k))).to(dtype)
    assert_near(product(x, w), gemm.Matrix(x.double().numpy()), w.matrix)


@pytest.mark.parametrize("w_format", ["int8:row", "uint5:row", "float8_e5m2:row", "float6_e3m2fn:row"])
@pytest.mark.parametrize("layout", ["canonical", "tile16"])
def test_no_bit_of_fp16_is_lost(fast: str, w_format: str, layout: str) -> None:
    """11 bits times 8 at most: a product by itself is exact. Every significand, and every exponent to the least denormal."""
    rng = np.random.default_rng(2)
    n, k = 40, 100
    w = operand(rng, w_format, n, k, layout=layout, scaled=False)
    significands = torch.arange(1024, 2048).double() / 1024
    powers = torch.pow(2.0, torch.arange(-24, 16).double())
    denormals = torch.arange(1, 1024, 31).double() * 2.0**-24
    values = torch.cat([significands, -powers, denormals]).half()
    x = one_a_row(values, k)
    want = x.double() @ torch.from_numpy(w.matrix.values).T
    assert torch.equal(product(x, w).double(), want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bits", range(1, 9))
def test_no_bit_of_a_table_is_lost(fast: str, dtype: torch.dtype, bits: int) -> None:
    """24 bits times a power of two, of values with 8, 16 and 24 bits and of zero."""
    g = torch.Generator().manual_seed(bits)
    table = torch.randn(2**bits, generator=g)
    table[::3] = table[::3].bfloat16().float()
    table[1::3] = (table[1::3].view(torch.int32) & -256).view(torch.float32)
    table[-1] = 0.0
    n, k = 144, 256
    codes = torch.randint(0, 2**bits, (n, k), generator=g).to(torch.uint8)
    w = OP.prepack(OP.pack(codes, f"table{bits}"), f"table{bits}", k)
    x = one_a_row(torch.pow(2.0, torch.arange(40) % 13 - 6.0).to(dtype), k)
    for rows in (1, 40):
        got = OP.dequant_gemm(x[:rows], w, torch.ones(n, 1), None, f"table{bits}@tile16", w_table=table, out_dtype=torch.float32)
        assert torch.equal(got.double(), x[:rows].double() @ table.double()[codes.long()].T)


@pytest.mark.parametrize("value", [2.0**-110 * (1 + 2.0**-23), 2.0**-130, -(2.0**-118) * (1 + 2.0**-15)])
def test_values_whose_parts_are_denormal(fast: str, value: float) -> None:
    """Tiles take denormals for zeros: such a table is not for them."""
    table = torch.tensor([1.0, value])
    codes = (torch.arange(48 * 70).reshape(48, 70) % 2).to(torch.uint8)
    w = OP.prepack(OP.pack(codes, "table1"), "table1", 70)
    x = one_a_row(torch.full((20,), 2.0**20).bfloat16(), 70)
    got = OP.dequant_gemm(x, w, torch.ones(48, 1), None, "table1@tile16", w_table=table, out_dtype=torch.float32)
    assert torch.equal(got.double(), x.double() @ table.double()[codes.long()].T)


@pytest.mark.parametrize("pair", [*PAIRS, (torch.float16, "float8_e5m2:row")], ids=str)
def test_infinities_and_nan(fast: str, pair: tuple[torch.dtype, str]) -> None:
    """As of the numbers themselves: an infinity times a zero alone is NaN, whatever bits a factor has."""
    dtype, w_format = pair
    rng = np.random.default_rng(4)
    m, n, k = 40, 70, 130
    w = operand(rng, w_format, n, k, layout="tile16", zero="int" if w_format.startswith("uint") else None)
    x = torch.from_numpy(rng.standard_normal((m, k))).to(dtype)
    x[::2] = x[::2].sign()  # of few bits
    x[3, 5], x[8, 100], x[20, 0], x[21, 129] = torch.inf, -torch.inf, torch.nan, torch.inf
    x[30, 7] = x[30, 9] = torch.inf
    got = product(x, w)
    _C.force_isa("ref")
    want = OP.dequant_gemm(x, w.codes, w.scale, w.zero, w.format, w_table=w.table, out_dtype=torch.float32)
    assert torch.equal(got.isnan(), want.isnan())
    assert torch.equal(got.isinf(), want.isinf())
    assert torch.equal(got[want.isinf()], want[want.isinf()])
    assert want.isinf().any()


def test_infinities_and_nan_of_weights(fast: str) -> None:
    """A finite activation times an infinity is one, also where the activation has few bits."""
    table = torch.tensor([1.0, -0.3, torch.inf, torch.nan, -torch.inf, 0.0, 0.5, 2.0])
    codes = torch.zeros(48, 70, dtype=torch.uint8)
    codes[torch.arange(48), torch.arange(48)] = torch.arange(48).to(torch.uint8) % 8
    w = OP.prepack(OP.pack(codes, "table3"), "table3", 70)
    e5m2 = torch.tensor([0x3C, 0x7C, 0xFC, 0x7F])[torch.arange(48 * 70).reshape(48, 70) % 151 % 4].to(torch.uint8)
    for dtype in (torch.float16, torch.bfloat16):
        x = (torch.rand(20, 70, generator=torch.Generator().manual_seed(1)) + 0.5).to(dtype)
        x[::2] = 1.0
        want = x.double() @ table.double()[codes.long()].T
        got = OP.dequant_gemm(x, w, torch.ones(48, 1), None, "table3@tile16", w_table=table, out_dtype=torch.float32).double()
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5, equal_nan=True)
        want = x.double() @ e5m2.view(torch.float8_e5m2).double().T
        got = OP.dequant_gemm(x, e5m2, None, None, "float8_e5m2", out_dtype=torch.float32).double()
        assert torch.equal(got.isnan(), want.isnan())


@pytest.mark.parametrize("pair", PAIRS, ids=str)
@pytest.mark.parametrize("layout", ["canonical", "tile16"])
def test_bits_do_not_depend_on_the_batch(fast: str, pair: tuple[torch.dtype, str], layout: str) -> None:
    rng = np.random.default_rng(5)
    dtype, w_format = pair
    m, n, k = 300, 145, 777
    w = operand(rng, w_format, n, k, layout=layout, zero="int" if w_format.startswith("uint") else None)
    x = torch.from_numpy(rng.standard_normal((m, k))).to(dtype)
    whole = product(x, w)
    for begin, end in [(0, 1), (3, 5), (5, 8), (8, 16), (7, 16), (17, 33), (100, 117), (171, 300)]:
        assert torch.equal(product(x, w, slice(begin, end)), whole[begin:end]), (begin, end)
    strided = torch.stack([x, x], 2)[:, :, 0]
    assert torch.equal(product(strided, w), whole)
