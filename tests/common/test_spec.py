"""Format strings: the grammar of common/spec.h, and what a wrong one is answered."""

import lowbit._C as _C
import pytest

PLAIN = {"named": None, "scale": None, "scale_block": None, "unit": 1.0, "layout": "canonical"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int4", {"element": "int4", "block": (1, 0)}),
        ("int4:row", {"element": "int4", "block": (1, 0)}),
        ("int4:tensor", {"element": "int4", "block": (0, 0)}),
        ("int4:g64", {"element": "int4", "block": (1, 64)}),
        ("float8_e4m3fn:b128x128", {"element": "float8_e4m3fn", "block": (128, 128)}),
        ("ternary:b1x7", {"element": "ternary", "block": (1, 7)}),
        ("int4:g64@mma64", {"element": "int4", "block": (1, 64), "layout": "mma64"}),
        ("int4:g64@tile16", {"element": "int4", "block": (1, 64), "layout": "tile16"}),
        ("nf4@plain", {"element": "nf4", "block": (1, 0), "layout": "plain"}),
        ("nf4@canonical", {"element": "nf4", "block": (1, 0)}),
        ("uint2:g16/uint4", {"element": "uint2", "block": (1, 16), "scale": "uint4"}),
        ("uint2:g16/uint4:g16", {"element": "uint2", "block": (1, 16), "scale": "uint4", "scale_block": (1, 16)}),
        ("int4:g32/float8_e4m3fn:tensor@tile16",
         {"element": "int4", "block": (1, 32), "scale": "float8_e4m3fn", "scale_block": (0, 0), "layout": "tile16"}),
        ("table8:g2147483647", {"element": "table8", "block": (1, 2**31 - 1)}),
    ],
)  # fmt: skip
def test_parse(text, expected):
    assert _C.parse_spec(text) == {**PLAIN, **expected}


@pytest.mark.parametrize("row", _C.block_formats(), ids=lambda r: r["name"])
@pytest.mark.parametrize("layout", ["canonical", "tile16"])
def test_named_block_formats_are_their_rows(row, layout):
    spec = _C.parse_spec(row["name"] + ("" if layout == "canonical" else "@" + layout))
    assert spec == {
        "element": row["element"],
        "named": row["name"],
        "block": (1, row["block"]),
        "scale": row["scale"],
        "scale_block": (0, 0) if row["scale_block"] else None,
        "unit": row["unit"],
        "layout": layout,
    }


@pytest.mark.parametrize(
    ("typo", "near"),
    [("itn4", "int4"), ("int44", "int4"), ("fp8_e4m3fn", "float8_e4m3fn"), ("float8_e4m3", "float8_e4m3fn"),
     ("nvfp5", "nvfp4"), ("mxfp8_e5m3", "mxfp8_e5m2"), ("ternery", "ternary"), ("NF4", "nf4"), ("bipolar9", "bipolar")],
)  # fmt: skip
def test_a_typo_is_answered_with_the_near_name(typo, near):
    with pytest.raises(ValueError, match=f'must name a known format, got "{typo}"; did you mean "{near}'):
        _C.parse_spec(typo)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r'lowbit: format must name a known format, got ""; did you mean'),
        ("int4:", r'must have a block rule .*, got "" in "int4:"'),
        ("int4:64", r'must have a block rule .*, got "64" in "int4:64"; write for instance "int4:g64"'),
        ("int4:g0", r'must have a block rule .*, got "g0"'),
        ("int4:g-8", r'must have a block rule .*, got "g-8"'),
        ("int4:g64x", r'must have a block rule .*, got "g64x"'),
        ("int4:g2147483648", r'must have a block rule .*, got "g2147483648"'),
        ("int4:b16", r'must have a block rule .*, got "b16"'),
        ("int4:bx16", r'must have a block rule .*, got "bx16"'),
        ("int4:row:g8", r'must have a block rule .*, got "row:g8"'),
        ("int4@tile8", r'must end in a known layout, got "@tile8" in "int4@tile8"; use "@tile16"'),
        ("int4@", r'must end in a known layout, got "@"'),
        ("int4/", r'must name a known format, got ""'),
        ("int4/nvfp4", r'must name a known format, got "nvfp4"'),
        ("int4/uint4:q", r'must have a block rule .*, got "q" in "int4/uint4:q"'),
        ("int4/table4", r'must have scales in an integer, float or nf4 format, got "table4"'),
        ("int4/complex2", r'must have scales in an integer, float or nf4 format, got "complex2"'),
        ("int 4", r'must name a known format, got "int 4"; did you mean "int4"'),
        (" int4", r'must name a known format, got " int4"'),
    ],
)
def test_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        _C.parse_spec(text)


def test_the_sentence_opens_with_the_op_and_the_argument():
    with pytest.raises(ValueError, match=r"^gemm: w_format must name a known format, got \"int9\""):
        _C.parse_spec("int9", "gemm", "w_format")


def test_what_is_kept_of_earlier_strings_answers_for_no_other():
    """More strings than a thread keeps, among them beginnings of each other, in turn and again."""
    texts = [f"int4:g{n}" for n in (6, 64, 641)] + ["int4", "int4:g64@tile16", "uint4:g64"]
    first = [_C.parse_spec(text) for text in texts]
    assert len({str(sorted(spec.items(), key=str)) for spec in first}) == len(texts)
    for _ in range(2):
        assert [_C.parse_spec(text) for text in reversed(texts)] == first[::-1]
        with pytest.raises(ValueError, match="int4:gx"):
            _C.parse_spec("int4:gx")
