"""Every code of every element format against the published definitions, and encoding against oracles that know nothing
of the library: oracle.formats for all of them, ml_dtypes and gfloat for the floats they can express."""

from fractions import Fraction

import gfloat
import lowbit._C as _C
import ml_dtypes
import numpy as np
import pytest
from oracle import formats as oracle
from scipy.stats import norm

ROWS = {f["name"]: f for f in _C.element_formats()}
FLOATS = [n for n in ROWS if n.startswith("float")]
CODEBOOKS = [n for n in ROWS if ROWS[n]["kind"] == "codebook"]
REAL = [n for n in ROWS if n not in CODEBOOKS and n != "complex2"]


def table_for(name: str) -> np.ndarray | None:
    """An uneven ascending table for a codebook format."""
    if ROWS[name]["kind"] != "codebook":
        return None
    rng = np.random.default_rng(ROWS[name]["bits"])
    return np.sort(rng.standard_normal(1 << ROWS[name]["bits"])).astype(np.float32)


def steps(x: np.ndarray, count: int) -> np.ndarray:
    """x moved by `count` float32 steps."""
    for _ in range(abs(count)):
        x = np.nextafter(x, np.float32(np.inf if count > 0 else -np.inf), dtype=np.float32)
    return x


def inputs_around(values: np.ndarray) -> np.ndarray:
    """Every value, every midpoint between neighbours, both one step to each side, and the far ends."""
    finite = np.unique(values[np.isfinite(values)])
    middles = (finite[:-1] + finite[1:]) / 2
    exact = np.concatenate([finite, middles, -finite, -middles]).astype(np.float32)
    top = float(np.abs(finite).max())
    largest = float(np.finfo(np.float32).max)
    far = np.array([*(min(top * m, largest) for m in (1.01, 1.5, 2)), largest, np.inf], np.float32)
    tiny = np.array([0.0, 1e-45, 1.2e-38, 1.1754942e-38, 2.0**-127], np.float32)
    return np.concatenate([exact, steps(exact, 1), steps(exact, -1), far, -far, tiny, -tiny, [np.float32(np.nan)]])


def sweep() -> np.ndarray:
    """Float32 bit patterns: every upper half word with low halves that are zero, tie-making and next to these."""
    high = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    low = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    return (high[:, None] | low).reshape(-1).view(np.float32)


SWEEP = sweep()


def same_values(name: str, a: np.ndarray, b: np.ndarray) -> bool:
    """Equal as values, NaN equal to NaN, zeros told apart by sign."""
    return bool(np.array_equal(a, b, equal_nan=True) and np.array_equal(np.signbit(a[a == a]), np.signbit(b[b == b])))


def test_the_formats_are_those_of_the_published_list():
    assert sorted(ROWS) == sorted(oracle.NAMES)
    assert all(ROWS[n]["bits"] == oracle.bits_of(n) for n in ROWS)


@pytest.mark.parametrize("name", REAL)
def test_every_code_decodes_to_its_value_and_comes_back(name):
    codes = np.arange(1 << ROWS[name]["bits"], dtype=np.uint8)
    expected = oracle.values(name)
    decoded = _C.decode(name, codes)
    assert same_values(name, decoded.astype(np.float64), expected)
    assert same_values(name, np.array(ROWS[name]["values"]), expected)
    valid = [c for c in codes if oracle.is_code(name, int(c)) and not np.isnan(expected[c])]
    np.testing.assert_array_equal(_C.encode(name, decoded[valid]), codes[valid])
    nan = decoded[np.isnan(expected)]
    assert np.isnan(_C.decode(name, _C.encode(name, nan))).all()


@pytest.mark.parametrize("name", REAL)
def test_encode_around_every_value_and_tie(name):
    x = inputs_around(oracle.values(name))
    np.testing.assert_array_equal(_C.encode(name, x), oracle.encode(name, x))


@pytest.mark.parametrize("name", REAL)
def test_encode_over_a_sweep_of_bit_patterns(name):
    np.testing.assert_array_equal(_C.encode(name, SWEEP), oracle.encode(name, SWEEP))


@pytest.mark.parametrize("name", CODEBOOKS)
def test_codebooks(name):
    table = table_for(name)
    codes = np.arange(len(table), dtype=np.uint8)
    np.testing.assert_array_equal(_C.decode(name, codes, table), table)
    np.testing.assert_array_equal(_C.encode(name, table, table), codes)
    x = np.concatenate([inputs_around(table), SWEEP[::7]])
    # a float32 midpoint is exact in float64 only where the two neighbours are near in magnitude: here they are
    np.testing.assert_array_equal(_C.encode(name, x, table), oracle.encode(name, x, table))


@pytest.mark.parametrize(
    ("low", "high"), [(-1e-30, 1.0), (1e-30, 1.0), (-1.0, 1e-38), (-1e30, 1.0), (-3e38, 3e38), (1.0, 1e30)]
)
def test_codebook_midpoints_that_no_float_holds(low, high):
    table = np.array([low, high], np.float32)
    exact = [Fraction(float(v)) for v in table]
    middle = np.float32(float((exact[0] + exact[1]) / 2))
    x = np.array([middle, steps(middle, 1), steps(middle, -1)], np.float32)
    expected = [int(2 * Fraction(float(v)) > exact[0] + exact[1]) for v in x]
    np.testing.assert_array_equal(_C.encode("table1", x, table), expected)


def test_a_codebook_format_needs_its_table():
    with pytest.raises(ValueError, match="table must hold the 8 values of format table3, got None"):
        _C.encode("table3", np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="table must hold the 8 values of format table3, got 7"):
        _C.decode("table3", np.zeros(3, np.uint8), np.zeros(7, np.float32))


def test_nf4_is_the_normal_quantiles():
    """QLoRA's construction: 8 quantiles below and 7 above zero, scaled to [-1, 1]. The published numbers were computed
    in float32, so they are the quantiles to 1e-6."""
    end = 0.9677083
    positive = norm.ppf(np.linspace(end, 0.5, 9)[:-1])
    negative = -norm.ppf(np.linspace(end, 0.5, 8)[:-1])
    quantiles = np.sort(np.concatenate([positive, [0.0], negative]))
    assert np.abs(np.array(ROWS["nf4"]["values"]) - quantiles / np.abs(quantiles).max()).max() < 1e-6


def test_complex_codes_and_phase_classes():
    assert ROWS["complex2"]["values"] == list(oracle.values("complex2"))
    rng = np.random.default_rng(3)
    z = (rng.standard_normal(4000) + 1j * rng.standard_normal(4000)).astype(np.complex64)
    np.testing.assert_array_equal(_C.encode_complex(z), [oracle.phase_class(complex(v)) for v in z])
    # the borders, all eight directions, both zeros, and the values themselves
    border = np.array([1 + 1j, -1 + 1j, -1 - 1j, 1 - 1j, 0, 1, 1j, -1, -1j], np.complex64)
    np.testing.assert_array_equal(_C.encode_complex(border), [1, 2, 2, 0, 0, 0, 1, 2, 3])
    odd = np.array([np.nan, 1j * np.nan, -np.inf, np.inf * 1j], np.complex64)
    assert _C.encode_complex(odd)[0] == 0
    np.testing.assert_array_equal(_C.encode_complex(np.array([complex(-np.inf, 5)], np.complex64)), [2])
    real = np.array([3.0, -0.5, 0.0, np.nan], np.float32)
    np.testing.assert_array_equal(_C.encode("complex2", real), [0, 2, 0, 0])
    np.testing.assert_array_equal(_C.decode("complex2", np.arange(4, dtype=np.uint8)), [1, 0, -1, 0])


@pytest.mark.parametrize("name", [n for n in FLOATS if hasattr(ml_dtypes, n)])
def test_against_ml_dtypes(name):
    """Same values and the same rounding. Where ml_dtypes differs, the inputs are set aside: it overflows to infinity
    or NaN where OCP's saturating conversion (ours) gives the largest value; its NaN keeps a sign, and its formats
    without NaN encode NaN as negative zero. Its E8M0 rounds every tie up, not to the even code, and all between 2^-127
    and 2^-126 too (test_against_gfloat covers these)."""
    dtype = np.dtype(getattr(ml_dtypes, name))
    codes = np.arange(1 << ROWS[name]["bits"], dtype=np.uint8)
    theirs = codes.view(dtype).astype(np.float64)
    assert same_values(name, _C.decode(name, codes).astype(np.float64), theirs)
    x = np.concatenate([inputs_around(theirs), SWEEP])
    finite = theirs[np.isfinite(theirs)]
    x = x[(np.abs(x) <= finite.max()) & ((x > 0) | (finite.min() < 0))]
    if oracle.minifloat(name).specials == "power":
        x = x[(x >= 2.0**-126) & (np.frexp(x)[0] != 0.75)]
    np.testing.assert_array_equal(_C.encode(name, x), x.astype(dtype).view(np.uint8))


@pytest.mark.parametrize("name", ["int2", "int4", "uint2", "uint4"])
def test_integer_values_against_ml_dtypes(name):
    codes = np.arange(1 << ROWS[name]["bits"], dtype=np.uint8)
    theirs = codes.view(np.dtype(getattr(ml_dtypes, name))).astype(np.float32)
    np.testing.assert_array_equal(_C.decode(name, codes), theirs)


def gfloat_format(name: str) -> gfloat.FormatInfo:
    f = oracle.minifloat(name)
    return gfloat.FormatInfo(
        name=name,
        k=f.bits,
        precision=f.mantissa + 1,
        bias=f.bias,
        is_signed=f.signed,
        domain=gfloat.Domain.Extended if f.specials == "ieee" else gfloat.Domain.Finite,
        has_nz=f.signed,
        num_high_nans={"finite": 0, "nan": 1, "power": 1, "ieee": 2**f.mantissa - 1}[f.specials],
        has_subnormals=f.signed,
        is_twos_complement=False,
    )


@pytest.mark.parametrize("name", FLOATS)
def test_against_gfloat(name):
    """gfloat expresses every ExMy of the table from its widths and special values. Saturating conversion. Set aside:
    infinities (gfloat saturates them, ours stay where the format has them), negative values of unsigned formats (it
    has no rule), and what lies below the least value of E8M0 (it returns powers of two that the format lacks)."""
    info = gfloat_format(name)
    codes = np.arange(1 << ROWS[name]["bits"], dtype=np.uint8)
    theirs = np.array([gfloat.decode_float(info, int(c)).fval for c in codes])
    assert same_values(name, _C.decode(name, codes).astype(np.float64), theirs)
    x = np.concatenate([inputs_around(theirs), SWEEP[::101]])
    x = x[np.isfinite(x)]
    x = x[(x >= np.nanmin(theirs)) | info.is_signed]
    rounded = gfloat.round_ndarray(info, x.astype(np.float64), sat=True)
    mine = _C.decode(name, _C.encode(name, x))
    np.testing.assert_array_equal(mine, rounded)


@pytest.mark.parametrize("name", REAL)
def test_derived_facts(name):
    """int8_shift, exact_in_bf16, scale_max and max_code by looking at every value."""
    row, v = ROWS[name], oracle.values(name)
    valid = np.array([v[c] for c in range(len(v)) if oracle.is_code(name, c)])
    finite = valid[np.isfinite(valid)]
    assert row["scale_max"] == np.abs(finite).max() if name[:3] not in ("int", "ter") else max(finite.max(), 1)
    assert v[row["max_code"]] == finite.max()
    if row["kind"] in ("signed", "unsigned", "bipolar", "ternary"):
        assert row["int8_shift"] == 0
    elif len(finite) < len(valid) or row["kind"] == "table":
        assert row["int8_shift"] == -1
    else:
        whole = next(s for s in range(200) if (finite * 2.0**s == np.round(finite * 2.0**s)).all())
        assert row["int8_shift"] == (whole if np.abs(finite).max() * 2.0**whole <= 127 else -1)
    short = finite.astype(ml_dtypes.bfloat16).astype(np.float64)
    assert row["exact_in_bf16"] == ((short == finite).all() and name != "float8_e8m0fnu")
