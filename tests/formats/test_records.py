"""lowbit.formats() and the sizes that follow from a format string."""

import dataclasses

import lowbit
import lowbit._C as _C
import pytest
import torch
from lowbit.formats import BlockFormat, ElementFormat, block_format, element
from lowbit.spec import FormatSpec


def test_every_row_is_a_record():
    records = {f.name: f for f in lowbit.formats()}
    assert list(records) == [r["name"] for r in _C.element_formats()] + [r["name"] for r in _C.block_formats()]
    for row in _C.element_formats():
        record = records[row["name"]]
        assert isinstance(record, ElementFormat)
        assert repr({k: getattr(record, k) for k in row}) == repr({**row, "values": tuple(row["values"])})  # NaN too
        assert element(row["name"]) is record
    for row in _C.block_formats():
        record = records[row["name"]]
        assert isinstance(record, BlockFormat)
        assert (record.element.name, record.scale.name) == (row["element"], row["scale"])
        assert block_format(row["name"]) is record


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        element("int4").bits = 5


@pytest.mark.parametrize(
    ("find", "name", "sentence"),
    [
        (element, "itn4", 'got "itn4"; did you mean "int4"'),
        (
            element,
            "nvfp4",
            'must name an element format, got the block format "nvfp4"; its elements are "float4_e2m1fn"',
        ),
        (element, "int4:g64", 'must name an element format, got the format string "int4:g64"; its elements are "int4"'),
        (block_format, "nvfp44", 'did you mean "nvfp4"'),
        (block_format, "int4", 'must name a block format, got "int4"; use one of .*nvfp4'),
    ],
)
def test_unknown_names(find, name, sentence):
    with pytest.raises(ValueError, match=sentence):
        find(name)


@pytest.mark.parametrize(
    ("text", "dtypes", "bits"),
    [
        ("int4:g64", {"scale_dtype": torch.float16}, 4 + 16 / 64),
        ("uint4:g128", {"scale_dtype": torch.bfloat16, "zero_dtype": torch.uint8}, 4 + (16 + 8) / 128),
        ("int8", {}, 8 + 32 / 4096),
        ("int8:tensor", {}, 8 + 32 / 4096**2),
        ("float8_e4m3fn:b128x128", {}, 8 + 32 / 128**2),
        ("mxfp4", {}, 4 + 8 / 32),
        ("mxfp6_e2m3", {}, 6 + 8 / 32),
        ("nvfp4", {}, 4 + 8 / 16 + 32 / 4096**2),
        ("uint2:g16/uint4:g16", {"scale_dtype": torch.float16}, 2 + 4 / 16 + 16 / 256),
    ],
)
def test_bits_per_weight(text, dtypes, bits):
    assert FormatSpec.parse(text).bits_per_weight(4096, 4096, **dtypes) == pytest.approx(bits, rel=1e-12)


def test_sizes_of_ragged_blocks():
    spec = FormatSpec.parse("uint2:b2x16/uint4:g4")
    assert spec.scale_shape(5, 70) == (3, 5)
    assert spec.scale2_shape(5, 70) == (3, 2)
    assert spec.bits_per_weight(5, 70) == (5 * 70 * 2 + 15 * 4 + 6 * 32) / 350
    assert FormatSpec.parse("int3:g7").scale2_shape(5, 70) is None
