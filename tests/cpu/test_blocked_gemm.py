"""The blocked GEMM of the ISA folders against the reference: bit for bit on the integer path, within a derived bound
of a float64 product on the float path; the same bits whatever M, the position in the batch and the threads."""

import subprocess
import sys
import threading
from dataclasses import dataclass, field

import lowbit  # noqa: F401
import lowbit._C as _C
import pytest
import torch

RECORDS = {f["name"]: f for f in _C.element_formats()}
FAST = [name for name in _C.isa_list() if name != "ref"]
INTEGER = [n for n, f in RECORDS.items() if f["int8_shift"] >= 0]
REAL = [n for n, f in RECORDS.items() if f["kind"] not in ("complex", "codebook") and f["specials"] != "power"]
BLOCKS = {f["name"]: f["element"] for f in _C.block_formats()}
LAYOUTS = ["canonical", "plain", "tile16", "mma64"]
ROWS = [0, 1, 2, 3, 4, 8, 17, 64, 129]

op = torch.ops.lowbit


def random_codes(g: torch.Generator, name: str, rows: int, cols: int) -> torch.Tensor:
    """Codes of finite values."""
    values = torch.tensor(RECORDS[name]["values"], dtype=torch.float64)
    legal = torch.nonzero(values.isfinite() & ~((values == -2) & torch.tensor(name == "ternary"))).flatten()
    return legal[torch.randint(len(legal), (rows, cols), generator=g)].to(torch.uint8)


def blocks(cols: int, group: int) -> int:
    return 1 if group == 0 else -(-cols // group)


def record_of(spec: str) -> str:
    """The element format of a format string."""
    return BLOCKS.get(spec, spec.split(":")[0])


@dataclass
class Operand:
    """A quantized matrix: what the op takes, and its values in float64."""

    name: str
    rows: int
    cols: int
    group: int
    layout: str
    codes: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor | None
    packed: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        if self.layout == "plain":
            padded = torch.full((self.rows, self.cols + 3), 0xFF, dtype=torch.uint8)  # strided
            padded[:, : self.cols] = self.codes
            self.packed = padded[:, : self.cols]
        else:
            self.packed = op.pack(self.codes, self.name)
            if self.layout != "canonical":
                self.packed = op.prepack(self.packed, self.name, self.cols, layout=self.layout)

    @property
    def format(self) -> str:
        suffix = "" if self.layout == "canonical" else f"@{self.layout}"
        return f"{self.name}:{f'g{self.group}' if self.group else 'row'}{suffix}"

    def spread(self, t: torch.Tensor) -> torch.Tensor:
        return t.double().repeat_interleave(self.group or self.cols, 1)[:, : self.cols]

    def values(self) -> torch.Tensor:
        v = torch.tensor(RECORDS[self.name]["values"], dtype=torch.float64)[self.codes.long()]
        return (v if self.zero is None else v - self.spread(self.zero)) * self.spread(self.scale)


def operand(
    g: torch.Generator,
    name: str,
    rows: int,
    cols: int,
    group: int,
    layout: str,
    zero: str = "none",
    scale_dtype: torch.dtype = torch.float32,
) -> Operand:
    if layout == "plain" and RECORDS[name]["layout"] != "planes":
        layout = "canonical"
    shape = (rows, blocks(cols, group))
    scale = (0.5 + torch.rand(shape, generator=g)).to(scale_dtype)
    zeros = {
        "none": None,
        "uint8": torch.randint(0, 2 ** RECORDS[name]["bits"], shape, generator=g).to(torch.uint8),
        "int32": torch.randint(-300, 300, shape, generator=g).to(torch.int32),
        "float": torch.rand(shape, generator=g) * 3,
    }
    return Operand(name, rows, cols, group, layout, random_codes(g, name, rows, cols), scale, zeros[zero])


def scaled(x: Operand, w: Operand, bias: torch.Tensor | None = None, dtype: torch.dtype | None = None) -> torch.Tensor:
    return op.scaled_gemm(
        x.packed,
        x.scale,
        x.format,
        w.packed,
        w.scale,
        w.format,
        w.cols,
        x_zero=x.zero,
        w_zero=w.zero,
        bias=bias,
        out_dtype=dtype,
    )


def dequant(x: torch.Tensor, w: Operand, **kwargs) -> torch.Tensor:
    return op.dequant_gemm(x, w.packed, w.scale, w.zero, w.format, **kwargs)


class on:
    """Runs the body with one ISA's kernels and checks which kernel ran; an empty product (None) runs none."""

    def __init__(self, isa: str, family: str | None):
        self.isa, self.family = isa, family

    def __enter__(self):
        self.before = _C.isa()
        _C.force_isa(self.isa)

    def __exit__(self, kind, *_):
        _C.force_isa(self.before)
        if kind is None and self.family is not None:
            assert _C.last_kernel().removesuffix(":popcount").removesuffix(":scaled") == f"{self.family}:{self.isa}"


def both(isa: str, family: str | None, f) -> tuple[torch.Tensor, torch.Tensor]:
    with on(isa, family):
        got = f()
    with on("ref", family):
        return got, f()


def bound(x: torch.Tensor, w: torch.Tensor, segments: int) -> torch.Tensor:
    """Of the fp32 result, against the exact product of the values `x` and `w` in float64.

    A sum of at most 256 products runs in one chain, chains and segments are added: no term takes part in more than
    256 + K / 256 + segments additions; the zero point's subtraction, the products with the two scales and the bias
    round once each, and each part of a pair of bf16 products rounds alike. To first order in 2^-24 that is
    (number of roundings) * 2^-24 * sum |x w|.
    """
    k = x.shape[1]
    roundings = min(k, 256) + k // 256 + 2 * segments + 8
    return roundings * 2.0**-24 * (x.abs() @ w.abs().T) * 1.01


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize("seed", range(60))
def test_integer_path_is_bit_exact(isa: str, seed: int):
    g = torch.Generator().manual_seed(seed)

    def pick(options):
        return options[int(torch.randint(len(options), (), generator=g))]

    w_name, x_name = INTEGER[seed % len(INTEGER)], pick(INTEGER)
    m, n, k = pick(ROWS), pick([1, 15, 33, 64, 128, 130]), pick([1, 5, 64, 255, 700])
    groups = [0, 3, 16, 32, 100, 128]
    w_zero = pick(["none", "uint8", "int32", "float"]) if RECORDS[w_name]["kind"] != "float" else "none"
    x_zero = pick(["none", "none", "uint8", "int32"]) if RECORDS[x_name]["kind"] != "float" else "none"
    w = operand(
        g, w_name, n, k, pick(groups), pick(LAYOUTS), w_zero, pick([torch.float32, torch.bfloat16, torch.float16])
    )
    x = operand(g, x_name, m, k, pick([0, 0, *groups]), pick(LAYOUTS[:2]), x_zero)
    bias = pick([None, torch.randn(n, generator=g)])
    dtype = pick([torch.float32, torch.bfloat16, torch.float16])
    got, want = both(isa, "scaled_gemm" if m else None, lambda: scaled(x, w, bias, dtype))
    assert got.shape == (m, n)
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("seed", range(24))
def test_float_path_is_within_its_bound(isa: str, dtype: torch.dtype, seed: int):
    g = torch.Generator().manual_seed(1000 + seed)

    def pick(options):
        return options[int(torch.randint(len(options), (), generator=g))]

    name = REAL[(3 * seed + 7 * ["float32", "bfloat16", "float16"].index(str(dtype)[6:])) % len(REAL)]
    m, n, k = pick(ROWS), pick([1, 15, 33, 64, 128, 130]), pick([1, 5, 64, 255, 700])
    group = pick([0, 3, 16, 100, 128])
    zero = pick(["none", "uint8", "int32", "float"]) if RECORDS[name]["kind"] not in ("float", "table") else "none"
    w = operand(g, name, n, k, group, pick(LAYOUTS), zero)
    x = torch.randn(m, 2 * k, generator=g).to(dtype)[:, ::2] if seed % 2 else torch.randn(m, k, generator=g).to(dtype)
    bias = pick([None, torch.randn(n, generator=g)])
    with on(isa, "dequant_gemm" if m else None):
        got = dequant(x, w, bias=bias, out_dtype=torch.float32)
    want = x.double() @ w.values().T + (0 if bias is None else bias.double())
    slack = bound(x.double(), w.values(), blocks(k, group)) + (0 if bias is None else bias.abs() * 2.0**-23)
    # |fl(value - zero)| <= |value| + |zero|: the rounding of the difference is below one more ulp of the value
    assert bool(((got.double() - want).abs() <= slack + 1e-30).all())


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize(
    "pair", [("float8_e4m3fn", "float8_e4m3fn"), ("float8_e5m2", "nf4"), ("int8", "float8_e4m3fn")]
)
def test_float_pairs_of_codes(isa: str, pair: tuple[str, str]):
    g = torch.Generator().manual_seed(7)
    w = operand(g, pair[1], 50, 300, 32, "tile16")
    x = operand(g, pair[0], 19, 300, 32, "canonical")
    with on(isa, "scaled_gemm"):
        got = scaled(x, w)
    want = x.values() @ w.values().T
    assert bool(((got.double() - want).abs() <= bound(x.values(), w.values(), 10)).all())


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("coarse", [False, True])
def test_codebooks(isa: str, bits: int, coarse: bool):
    """Values that need all 24 bits of an fp32, and values of 8."""
    g = torch.Generator().manual_seed(bits)
    n, k = 130, 129
    table = torch.randn(2**bits, generator=g).sort().values
    table = table.bfloat16().float() if coarse else table
    codes = torch.randint(0, 2**bits, (n, k), generator=g).to(torch.uint8)
    scale = torch.rand(n, blocks(k, 32), generator=g)
    w = op.prepack(op.pack(codes, f"table{bits}"), f"table{bits}", k)
    values = table.double()[codes.long()] * scale.double().repeat_interleave(32, 1)[:, :k]
    for m in (1, 9):
        x = torch.randn(m, k, generator=g).bfloat16()
        with on(isa, "dequant_gemm"):
            got = op.dequant_gemm(x, w, scale, None, f"table{bits}:g32@tile16", w_table=table, out_dtype=torch.float32)
        assert bool(((got.double() - x.double() @ values.T).abs() <= bound(x.double(), values, blocks(k, 32))).all())


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize("p", range(1, 9))
def test_bit_planes_of_every_width(isa: str, p: int):
    g = torch.Generator().manual_seed(p)
    n, k = 33, 300
    for q, rule in enumerate(["int", "uint", "bipolar", "int", "uint", "bipolar", "int", "uint"], 1):
        w = operand(g, f"{('int', 'uint', 'bipolar')[p % 3]}{p}", n, k, 64, "canonical", "uint8")
        x = operand(g, f"{rule}{q}", 6, k, 0, "canonical", "uint8" if q % 2 else "none")
        for dtype in (torch.float32, torch.int32):
            scales = (None, None) if dtype == torch.int32 else (x.scale, w.scale)

            def run(x=x, w=w, scales=scales, dtype=dtype):
                return op.bitplane_gemm(
                    x.packed, scales[0], x.zero, x.format, w.packed, scales[1], w.zero, w.format, k, out_dtype=dtype
                )

            got, want = both(isa, "bitplane_gemm", run)
            assert torch.equal(got, want)


PAIRS = [
    ("mxfp4", "mxfp4"),
    ("mxint8", "mxfp4"),
    ("nvint4", "nvint4"),
    ("nvfp4", "nvfp4"),
    ("mxfp6_e2m3", "mxint8"),
    ("mxfp8_e4m3", "mxfp4"),
    ("float8_e4m3fn:row", "float8_e4m3fn:b32x64"),
    ("int8:tensor", "int4:b32x64"),
    ("int8:g64", "uint4:g16/uint4:g4"),
]


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize(
    ("pair", "prepacked"),
    # prepacked weights have a row of scales for each row: b<R>x<C> is refused
    [(pair, prepacked) for pair in PAIRS for prepacked in (False, True) if not (prepacked and "b32" in pair[1])],
)
def test_block_formats(isa: str, pair: tuple[str, str], prepacked: bool):
    """Coded, two-level, two-dimensional and tensor scales, as quantize makes them: more than are looked up at once."""
    g = torch.Generator().manual_seed(2)
    m, n, k = 21, 70, 1112
    quantized, dense = [], []
    for rows, spec in zip((m, n), pair, strict=True):
        q = [t if t.numel() else None for t in op.quantize(torch.randn(rows, k, generator=g), spec)]
        dense.append(op.dequantize(q[0], q[1], q[2], spec, k, scale2=q[3]).double())
        quantized.append(q)
    (x, xs, xz, xs2), (w, ws, wz, ws2) = quantized
    w_format = pair[1]
    if prepacked:
        w, w_format = op.prepack(w, w_format, k), f"{w_format}@tile16"
    got, want = both(
        isa,
        "scaled_gemm",
        lambda: op.scaled_gemm(x, xs, pair[0], w, ws, w_format, k, x_zero=xz, w_zero=wz, x_scale2=xs2, w_scale2=ws2),
    )
    if all(RECORDS[record_of(f)]["int8_shift"] >= 0 for f in pair):
        assert torch.equal(got, want)
    slack = bound(dense[0], dense[1], k // 16 + 1)
    assert bool(((got.double() - dense[0] @ dense[1].T).abs() <= slack).all())


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize("numbers", ["int8", "bfloat16", "float32"])
@pytest.mark.parametrize("layout", ["tile16", "canonical"])
@pytest.mark.parametrize(("name", "group"), [("int4", 100), ("uint3", 18), ("int8", 0), ("uint7", 32), ("bipolar1", 0),
                                             ("uint1", 36), ("ternary", 20), ("uint2", 28), ("float8_e4m3fn", 0),
                                             ("float8_e5m2", 36)])  # fmt: skip
def test_results_do_not_depend_on_the_batch(isa: str, numbers: str, layout: str, name: str, group: int):
    """Few rows of x meet weights that are decoded where they are used, many a panel: the sums are the same."""
    g = torch.Generator().manual_seed(3)
    m, n, k = 300, 145, 777
    w = operand(g, name, n, k, group, layout, "uint8" if name.startswith("uint") else "none")
    if numbers == "int8":
        x = operand(g, "int8", m, k, 0, "plain")
        run = lambda a, b: op.scaled_gemm(x.packed[a:b], x.scale[a:b], x.format, w.packed, w.scale, w.format, k)  # noqa: E731
    else:
        dense = torch.randn(m, k, generator=g).to(getattr(torch, numbers))
        run = lambda a, b: dequant(dense[a:b], w, out_dtype=torch.float32)  # noqa: E731
    before = _C.isa()
    _C.force_isa(isa)
    threads = torch.get_num_threads()
    try:
        whole = run(0, m)
        for a, b in [(0, 1), (3, 5), (17, 20), (100, 108), (171, 300)]:
            assert torch.equal(run(a, b), whole[a:b])
        torch.set_num_threads(1)
        assert torch.equal(run(0, m), whole)
    finally:
        torch.set_num_threads(threads)
        _C.force_isa(before)


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize("codes", ["int8", "uint8", "bipolar8"])
def test_sums_beyond_int32(isa: str, codes: str):
    """K whose products cannot be held in 32 bits: joined in 64."""
    k = 140_000
    full = {"int8": 0x80, "uint8": 0xFF, "bipolar8": 0xFF}[codes]
    w = Operand(codes, 17, k, 0, "tile16", torch.full((17, k), full, dtype=torch.uint8), torch.ones(17, 1), None)
    x = Operand(codes, 4, k, 0, "plain", torch.full((4, k), full, dtype=torch.uint8), torch.ones(4, 1), None)
    got, want = both(isa, "scaled_gemm", lambda: scaled(x, w))
    value = RECORDS[codes]["values"][full]
    assert torch.equal(got, want)
    assert got[0, 0].item() == torch.tensor(value * value * k, dtype=torch.float64).float().item()


@pytest.mark.parametrize("isa", FAST)
def test_mixed_widths_outliers_and_second_order_scales(isa: str):
    g = torch.Generator().manual_seed(11)
    n, k, group = 37, 16 * 13 - 5, 16
    high_groups = torch.tensor([0, 3, 4, 12], dtype=torch.int32)
    high_cols = torch.cat([torch.arange(i * group, min(k, (i + 1) * group)) for i in high_groups.tolist()])
    low_cols = torch.tensor([c for c in range(k) if c not in set(high_cols.tolist())])
    low, high = random_codes(g, "uint2", n, len(low_cols)), random_codes(g, "uint4", n, len(high_cols))
    zero = torch.randint(0, 3, (n, 13), generator=g).to(torch.uint8)
    scale, scale2 = random_codes(g, "uint4", n, 13), torch.rand(n, 1, generator=g)
    counts = torch.randint(0, 3, (n,), generator=g)
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)]).to(torch.int32)
    cols = torch.randint(0, k, (int(counts.sum()),), generator=g).to(torch.int32)
    values = torch.randn(len(cols), generator=g).bfloat16()
    full = torch.empty(n, k, dtype=torch.float64)
    full[:, low_cols], full[:, high_cols] = low.double(), high.double()
    weight = (full - zero.double().repeat_interleave(group, 1)[:, :k]) * (
        scale.double() * scale2.double()
    ).repeat_interleave(group, 1)[:, :k]
    for r in range(n):
        for e in range(int(offsets[r]), int(offsets[r + 1])):
            weight[r, cols[e]] += values[e].double()
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(9, k, generator=g).to(dtype)
        with on(isa, "dequant_gemm"):
            got = op.dequant_gemm(
                x,
                op.pack(low, "uint2"),
                op.pack(scale, "uint4"),
                zero,
                "uint2:g16/uint4:row",
                w_scale2=scale2,
                w_high=op.pack(high, "uint4"),
                high_groups=high_groups,
                outlier_offsets=offsets,
                outlier_cols=cols,
                outlier_values=values,
                out_dtype=torch.float32,
            )
        want = x.double() @ weight.T
        slack = bound(x.double(), weight.abs() + 1.0, 13 + 4)
        assert bool(((got.double() - want).abs() <= slack).all())


@pytest.mark.parametrize("isa", FAST)
def test_many_callers_at_once(isa: str):
    """The workspace of a thread is its own."""
    g = torch.Generator().manual_seed(5)
    w = operand(g, "int3", 130, 500, 64, "tile16")
    xs = [torch.randn(m, 500, generator=g) for m in (1, 7, 33, 2)]
    before = _C.isa()
    _C.force_isa(isa)
    try:
        want = [dequant(x, w) for x in xs]
        got: list = [None] * len(xs)

        def call(i: int) -> None:
            for _ in range(20):
                got[i] = dequant(xs[i], w)

        workers = [threading.Thread(target=call, args=(i,)) for i in range(len(xs))]
        for t in workers:
            t.start()
        for t in workers:
            t.join()
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    finally:
        _C.force_isa(before)


MEMORY = """
import resource, sys
import torch, lowbit

n, k, m = 11008, 4096, 16
w = torch.randint(0, 256, (n // 16, k // 4, 32), dtype=torch.uint8)
scale = torch.ones(n, k // 128)
x = {x}
run = lambda w, scale: torch.ops.lowbit.{op}
run(w[:16], scale[:256])  # threads and their workspace
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(w, scale)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, lowbit._C.last_kernel())
"""


@pytest.mark.parametrize(
    ("x", "op"),
    [
        ("torch.ones(m, k)", 'dequant_gemm(x, w, scale, None, "int4:g128@tile16")'),
        ("torch.ones(m, k).bfloat16()", 'dequant_gemm(x, w, scale, None, "int4:g128@tile16")'),
        (
            "torch.ones(m, k, dtype=torch.int8)",
            'scaled_gemm(x, torch.ones(m, 1), "int8", w, scale, "int4:g128@tile16", k)',
        ),
    ],
)
def test_no_copy_of_the_weight_is_made(x: str, op: str):
    """The weight is 22 MiB packed, 43 MiB as bytes, 86 MiB in bf16: the peak of the process grows by far less."""
    out = subprocess.run(
        [sys.executable, "-c", MEMORY.format(x=x, op=op)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert out[1].endswith(f":{_C.isa()}")
    assert int(out[0]) < 8 << 10  # KiB
