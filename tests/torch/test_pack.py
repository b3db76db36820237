"""pack, unpack, prepack, unprepack and truncate through the ops: every format, odd and empty shapes, views, errors."""

import lowbit  # noqa: F401
import lowbit._C as _C
import numpy as np
import pytest
import torch
from compare import vectors_of
from oracle import formats as oracle
from oracle import layouts

OPS = torch.ops.lowbit
FORMATS = {f["name"]: f for f in _C.element_formats()}
SHAPES = [(1, 1), (3, 5), (16, 4), (17, 33), (5, 64), (33, 131), (2, 517), (19, 1100), (0, 7), (7, 0), (0, 0)]
ORDERS = {
    "plain": (FORMATS, lambda c, bits: c),
    "nibble_low": (["int4", "float4_e2m1fn", "nf4"], lambda c, bits: layouts.nibbles(c)),
    "nibble_high": (["uint4", "float4_e3m0fn", "bipolar4"], lambda c, bits: layouts.nibbles(c, high_first=True)),
    "gptq": (["uint2", "ternary", "uint4", "int8", "float8_e4m3fn"], layouts.gptq),
    "awq": (["uint4", "nf4"], lambda c, bits: layouts.awq(c)),
}


def random_codes(name: str, *shape: int, seed: int = 0) -> torch.Tensor:
    """Random codes of every value of the format."""
    codes = np.random.default_rng(seed).integers(0, 1 << FORMATS[name]["bits"], shape, np.uint8)
    if FORMATS[name]["kind"] == "ternary":
        codes[codes == 2] = 0
    return torch.from_numpy(codes)


def canonical(name: str, codes: np.ndarray) -> np.ndarray:
    layout = FORMATS[name]["layout"]
    if layout == "planes":
        return layouts.planes(codes, FORMATS[name]["bits"])
    return {"bytes": lambda c: c, "packed6": layouts.packed6, "packed4": layouts.nibbles}[layout](codes)


@pytest.mark.parametrize("name", FORMATS)
def test_canonical_and_tiles_of_every_format(isa, name):
    bits = FORMATS[name]["bits"]
    for seed, (rows, k) in enumerate(SHAPES):
        codes = random_codes(name, rows, k, seed=seed)
        packed = OPS.pack(codes, name)
        np.testing.assert_array_equal(packed.numpy(), canonical(name, codes.numpy()))
        assert torch.equal(OPS.unpack(packed, name, k), codes)
        for layout, expected in (("tile16", layouts.tile16), ("mma64", layouts.mma64)):
            tiles = OPS.prepack(packed, name, k, layout=layout)
            np.testing.assert_array_equal(tiles.numpy(), expected(codes.numpy(), bits))
            assert torch.equal(OPS.prepack(codes, name + "@plain", k, layout=layout), tiles)
            assert torch.equal(OPS.unprepack(tiles, f"{name}@{layout}", rows, k), packed)
        assert torch.equal(OPS.unprepack(OPS.prepack(packed, name, k), name, rows, k), packed)


@pytest.mark.parametrize("order", ORDERS)
def test_orders_of_other_libraries(isa, order):
    names, expected = ORDERS[order]
    for name in names:
        for seed, (rows, k) in enumerate([*SHAPES, (40, 600), (136, 63), (256, 130)]):
            rows = -(-rows // 8) * 8 if order == "awq" else rows
            codes = random_codes(name, rows, k, seed=seed)
            packed = OPS.pack(codes, name, layout=order)
            assert isa == "ref" or _C.last_kernel() == f"pack:{vectors_of(isa)}"
            np.testing.assert_array_equal(packed.numpy(), expected(codes.numpy(), FORMATS[name]["bits"]))
            assert torch.equal(OPS.unpack(packed, name, k, layout=order), codes)
            assert isa == "ref" or _C.last_kernel() == f"unpack:{vectors_of(isa)}"


@pytest.mark.parametrize("name", ["int3", "float6_e3m2fn", "nf4"])
@pytest.mark.parametrize("lead", [(1,), (3,), (2, 2), (0,), (2, 0)])
def test_leading_dimensions_are_matrices_one_after_another(isa, name, lead):
    codes = random_codes(name, *lead, 18, 37)
    each = codes.reshape(-1, 18, 37)

    def stacked(parts):
        parts = list(parts)
        return torch.stack(parts).reshape(*lead, *parts[0].shape) if parts else None

    packed = OPS.pack(codes, name)
    tiles = OPS.prepack(packed, name, 37)
    assert list(tiles.shape) == [*lead, 2, 10, 8 * FORMATS[name]["bits"]]
    if each.numel():
        assert torch.equal(packed, stacked(OPS.pack(c, name) for c in each))
        assert torch.equal(tiles, stacked(OPS.prepack(OPS.pack(c, name), name, 37) for c in each))
    assert torch.equal(OPS.unpack(packed, name, 37), codes)
    assert torch.equal(OPS.unprepack(tiles, name, 18, 37), packed)
    assert torch.equal(OPS.unpack(OPS.pack(codes, name, layout="plain"), name, 37, layout="plain"), codes)


@pytest.mark.parametrize("name", ["int5", "float4_e2m1fn", "float8_e4m3fn", "float6_e2m3fn"])
def test_views(isa, name):
    """Transposed, sliced and broadcast codes; packed tensors cut out of larger ones."""
    base = random_codes(name, 70, 150)
    for view in (base.t(), base[3:40, 5:133], base[::2, ::3], base[:1].expand(20, -1), base[:, :1].expand(-1, 9)):
        whole, plain, k = view.contiguous(), name + "@plain", view.shape[1]
        assert torch.equal(OPS.pack(view, name), OPS.pack(whole, name))
        assert torch.equal(OPS.prepack(view, plain, k), OPS.prepack(whole, plain, k))
    packed = OPS.pack(base, name)
    for part, rows in ((packed[..., 7:50, :], base[7:50]), (packed[..., 1::3, :], base[1::3])):
        assert torch.equal(OPS.unpack(part, name, 150), rows)
        assert torch.equal(OPS.prepack(part, name, 150), OPS.prepack(OPS.pack(rows.contiguous(), name), name, 150))
    cut = torch.nn.functional.pad(packed, (0, 5), value=1)[..., : packed.shape[-1]]
    assert torch.equal(OPS.unpack(cut, name, 150), base)
    assert torch.equal(OPS.prepack(cut, name, 150), OPS.prepack(packed, name, 150))


def capacity(name: str, packed: torch.Tensor) -> float:
    """Columns that a packed row has room for."""
    return {"planes": 32, "bytes": 1, "packed6": 4 / 3, "packed4": 2}[FORMATS[name]["layout"]] * packed.shape[-1]


@pytest.mark.parametrize(("name", "k"), [("int4", 33), ("uint7", 577), ("float4_e2m1fn", 77), ("float6_e3m2fn", 79)])
def test_bits_past_the_matrix_do_not_matter(isa, name, k):
    codes = random_codes(name, 21, k)
    packed = OPS.pack(codes, name)
    full = random_codes(name, 32, k + 64, seed=1) | 1
    full[:21, :k] = codes
    dirty = OPS.pack(full[:21, : round(capacity(name, packed))], name)
    assert dirty.shape == packed.shape
    assert not torch.equal(dirty, packed)
    assert torch.equal(OPS.unpack(dirty, name, k), codes)
    for layout, width in (("tile16", 4), ("mma64", 64)):
        tiles = OPS.prepack(dirty, name, k, layout=layout)
        assert torch.equal(tiles, OPS.prepack(packed, name, k, layout=layout))
        whole = -(-k // width) * width
        dirty_tiles = OPS.prepack(OPS.pack(full[:, :whole], name), name, whole, layout=layout)
        assert not torch.equal(dirty_tiles, tiles)
        assert torch.equal(OPS.unprepack(dirty_tiles, f"{name}@{layout}", 21, k), packed)


@pytest.mark.parametrize("rows", [5, 400])
@pytest.mark.parametrize("layout", ["canonical", "plain", "gptq"])
def test_pack_names_the_first_code_out_of_range(isa, layout, rows):
    codes = torch.zeros(rows, 700, dtype=torch.uint8)
    codes[rows - 1, 3], codes[3, 699], codes[3, 650] = 255, 7, 4
    with pytest.raises(
        ValueError, match="pack: codes must be codes of int2, got 4 at row 3, column 650; mask the codes"
    ):
        OPS.pack(codes, "int2", layout=layout)
    codes = torch.ones(rows, 700, dtype=torch.uint8)
    codes[2, 511] = 2
    with pytest.raises(ValueError, match="codes of ternary, got 2 at row 2, column 511; ternary codes are 0, 1 and 3"):
        OPS.pack(codes, "ternary", layout=layout)


@pytest.mark.parametrize("name", [n for n in FORMATS if FORMATS[n]["bits"] < 8])
def test_pack_takes_every_code_and_no_other(isa, name):
    for code in range(256):
        codes = torch.full((1, 65), 1, dtype=torch.uint8)
        codes[0, code % 65] = code
        if oracle.is_code(name, code):
            assert OPS.unpack(OPS.pack(codes, name), name, 65)[0, code % 65] == code
        else:
            with pytest.raises(ValueError, match=f"got {code} at row 0, column {code % 65}"):
                OPS.pack(codes, name)


U8 = torch.zeros(6, 10, dtype=torch.uint8)
PLANES = torch.zeros(4, 6, 1, dtype=torch.int32)
TILES = torch.zeros(1, 3, 32, dtype=torch.uint8)
SCALE = torch.ones(6, 1)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: OPS.pack(U8.int(), "int4"),
            r"pack: codes must be uint8 \[..., rows, K\], got int32 \[6, 10\]; convert",
        ),
        (lambda: OPS.pack(U8[0], "int4"), r"pack: codes must be uint8 \[..., rows, K\], got uint8 \[10\]"),
        (lambda: OPS.pack(U8, "itn4"), r'pack: format must name a known format, got "itn4"; did you mean "int4"'),
        (lambda: OPS.pack(U8, "int4", layout="nibble"), r'pack: layout must be "canonical", .*, got "nibble"'),
        (
            lambda: OPS.pack(U8, "int3", layout="gptq"),
            r'pack: format must have 2, 4 or 8 bits for layout "gptq", got int3',
        ),
        (lambda: OPS.pack(U8, "int8", layout="awq"), r'pack: format must have 4 bits for layout "awq", got int8'),
        (
            lambda: OPS.pack(U8, "int4", layout="awq"),
            r'pack: codes must have a multiple of 8 rows for layout "awq", got 6',
        ),
        (lambda: OPS.unpack(PLANES, "int4", 33), r"unpack: packed must have 2 words a row for K = 33 .*\[4, 6, 1\]"),
        (lambda: OPS.unpack(PLANES, "int4", -1), r"unpack: k must be at least 0, got -1"),
        (
            lambda: OPS.unpack(PLANES, "int3", 10),
            r"unpack: packed must have 3 planes for format int3, got shape \[4, 6, 1\]",
        ),
        (
            lambda: OPS.unpack(PLANES.float(), "int4", 10),
            r"unpack: packed must be int32 planes for format int4, got float32",
        ),
        (
            lambda: OPS.unpack(PLANES[0], "int4", 10),
            r"unpack: packed must have 3 dimensions for format int4, got shape \[6, 1\]",
        ),
        (lambda: OPS.unpack(U8, "float4_e2m1fn", 10), r"unpack: packed must have 5 bytes a row for K = 10"),
        (
            lambda: OPS.unpack(U8, "int4", 10, layout="nibble_low"),
            r"unpack: packed must be uint8 \[..., rows, 5\] for K = 10",
        ),
        (
            lambda: OPS.unpack(U8, "int4", 16, layout="gptq"),
            r"unpack: packed must be int32 \[..., 2, rows\] for K = 16",
        ),
        (
            lambda: OPS.unpack(U8.int(), "int4", 9, layout="awq"),
            r"unpack: packed must be int32 \[..., 9, rows / 8\] for K = 9",
        ),
        (
            lambda: OPS.unpack(U8[0], "int4", 9, layout="plain"),
            r"unpack: packed must be \[..., lines, units\], got shape \[10\]",
        ),
        (
            lambda: OPS.prepack(PLANES, "int4@tile16", 10),
            r'prepack: format must name the layout of w before, got "int4@tile16"',
        ),
        (
            lambda: OPS.prepack(PLANES, "int4", 10, layout="mma32"),
            r'prepack: layout must be "tile16" or "mma64", got "mma32"',
        ),
        (lambda: OPS.prepack(TILES, "int4@mma64", 10), r"prepack: format must name the layout of w before"),
        (
            lambda: OPS.prepack(PLANES, "int4:tensor", 10),
            r'prepack: w must have a multiple of 16 rows .* rows share, got \d+; give each row its own, as in "row"',
        ),
        (lambda: OPS.unprepack(TILES, "int4@mma64", 16, 10), r"unprepack: w must be \[rows / 16, 1, 512\] for K = 10"),
        (lambda: OPS.prepack(U8, "int4", 11), r"prepack: w must have 11 bytes|prepack: w must have 11 words"),
        (lambda: OPS.prepack(PLANES, "int4", -3), r"prepack: k must be at least 0, got -3"),
        (lambda: OPS.prepack(PLANES.long(), "int4", 10), r"prepack: w must be int32 planes for format int4, got int64"),
        (lambda: OPS.unprepack(TILES, "int4", 17, 10), r"unprepack: n must fit the tiles of 16 rows in w, got n = 17"),
        (lambda: OPS.unprepack(TILES, "int4", -1, 10), r"unprepack: n must be at least 0, got -1"),
        (lambda: OPS.unprepack(TILES, "int4", 16, 13), r"unprepack: w must be \[rows / 16, 4, 32\] for K = 13"),
        (lambda: OPS.unprepack(TILES, "int5", 16, 10), r"unprepack: w must be \[rows / 16, 3, 40\] for K = 10"),
        (
            lambda: OPS.truncate(PLANES, SCALE, None, "float4_e2m1fn", 2),
            r"truncate: format must be a signed, unsigned or bipolar",
        ),
        (lambda: OPS.truncate(PLANES[:2], SCALE, None, "ternary", 1), r"truncate: format must be .*, got ternary"),
        (lambda: OPS.truncate(PLANES[:2], SCALE, None, "complex2", 1), r"truncate: format must be .*, got complex2"),
        (lambda: OPS.truncate(PLANES, SCALE, None, "nf4", 2), r"truncate: format must be .*, got nf4"),
        (lambda: OPS.truncate(PLANES, SCALE, None, "int4", 0), r"truncate: bits must be 1 to 4 for format int4, got 0"),
        (lambda: OPS.truncate(PLANES, SCALE, None, "int4", 5), r"truncate: bits must be 1 to 4 for format int4, got 5"),
        (
            lambda: OPS.truncate(PLANES, U8, None, "int4:g5/uint4", 2),
            r'truncate: format must have float scales, got "int4:g5/uint4"',
        ),
        (lambda: OPS.truncate(TILES, SCALE, None, "int4@tile16", 2), r"truncate: w must be canonical or plain"),
        (
            lambda: OPS.truncate(PLANES[0, 0], SCALE, None, "int4", 2),
            r"truncate: w must be int32 \[..., bits, rows, words\]",
        ),
        (
            lambda: OPS.truncate(PLANES, SCALE.double(), None, "int4", 2),
            r"truncate: scale must be float32, bfloat16 or float16",
        ),
        (
            lambda: OPS.truncate(PLANES, (SCALE * 3e4).half(), None, "int4", 2),
            r"truncate: scale must be finite after times 4 in float16, got 30000 at element 0; convert it",
        ),
        (
            lambda: OPS.truncate(PLANES, SCALE / 0, None, "int4", 2),
            r"truncate: scale must be finite .* got inf at element 0",
        ),
        (lambda: OPS.truncate(PLANES, SCALE, SCALE.long(), "int4", 2), r"truncate: zero must be float32"),
    ],
)
def test_errors(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
