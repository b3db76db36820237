"""Configuration objects refuse what does not exist, with the way out."""

import re

import pytest
from lowbit import recipes
from lowbit.config import (
    GPTQ,
    RTN,
    ActivationConfig,
    ClipSearch,
    HadamardRotation,
    MinMax,
    Recipe,
    WeightConfig,
)

INT4 = WeightConfig("int4:g64")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: WeightConfig("int5:g64x"), 'must have a block rule .* write for instance "int4:g64"'),
        (lambda: WeightConfig("unit4:g64", asymmetric=True), 'got "unit4"; did you mean "uint4"'),
        (lambda: WeightConfig("int4:g64@tile16"), 'must be without a layout, .* write "int4:g64"'),
        (lambda: WeightConfig("complex2"), "must be an integer, float or nf4 format"),
        (lambda: WeightConfig("table4:g64"), "must be an integer, float or nf4 format"),
        (lambda: WeightConfig("uint4:g64"), "asymmetric must be True for unsigned formats"),
        (lambda: WeightConfig("int4:g64", asymmetric=True), "asymmetric must be True for unsigned formats"),
        (lambda: WeightConfig("int4:g64", scale_dtype="float64"), "scale_dtype must be one of"),
        (lambda: WeightConfig("mxfp4", scale_dtype="float16"), "scale_dtype must be None where the format fixes"),
        (lambda: ActivationConfig("uint8:row"), 'must be a signed integer, .* use for instance "int8:row"'),
        (lambda: ActivationConfig("nf4:g64"), "must be a signed integer, a float or a block format"),
        (lambda: ActivationConfig("int8:tensor"), "must be scaled per token"),
        (lambda: ClipSearch(norm=0), "norm must be positive"),
        (lambda: ClipSearch(steps=0), "steps must be at least 1"),
        (lambda: ClipSearch(smallest=1.5), "smallest must be in"),
        (lambda: GPTQ(act_order=True, static_groups=False), "static_groups must be True with act_order"),
        (lambda: GPTQ(damping=0), "damping must be positive"),
        (lambda: GPTQ(block=0), "block must be at least 1"),
        (lambda: Recipe("w3a16", "", INT4), 'name must be "w4a16" or start with "w4a16-"'),
        (lambda: Recipe("gptq-w4a16", "", INT4), 'name must be "w4a16"'),
        (
            lambda: Recipe("w4a16", "", INT4, grid=ClipSearch(), rounding=GPTQ(act_order=False, static_groups=False)),
            r"grid must be MinMax\(\) with dynamic groups",
        ),
        (
            lambda: Recipe("w4a16", "", WeightConfig("mxfp4"), rounding=GPTQ(act_order=False, static_groups=False)),
            "rounding must be GPTQ.static_groups=True. for formats with coded scales",
        ),
        (lambda: Recipe("w4a16", "", WeightConfig("mxfp4"), grid=ClipSearch()), "grid must be MinMax"),
    ],
)
def test_wrong_combinations_cannot_be_made(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_defaults_follow_the_format():
    assert INT4.scale_dtype == "float16"
    assert WeightConfig("float8_e4m3fn:row").scale_dtype == "float32"
    assert WeightConfig("nvfp4").scale_dtype is None
    assert Recipe("w4a16", "", INT4).head_weight is INT4
    assert not Recipe("w4a16", "", INT4).needs_calibration
    assert Recipe("w4a16", "", INT4, rounding=GPTQ()).needs_calibration


def test_frozen():
    with pytest.raises(AttributeError):
        INT4.format = "int3"  # type: ignore[misc]


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_survives_json(name):
    import json

    recipe = recipes.get(name)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_an_unknown_part_of_a_recipe_is_refused():
    values = recipes.get("w8a16").to_dict()
    values["rounding"] = {"type": "AWQ"}
    with pytest.raises(ValueError, match=r"must be one of .* got 'AWQ'; update lowbit"):
        Recipe.from_dict(values)


def test_names_tell_the_widths():
    for name in recipes.names():
        recipe = recipes.get(name)
        weight, activation = re.match(r"w(\d+)a(\d+)", name).groups()
        assert int(weight) == recipe.weight.spec.bits
        assert int(activation) == (recipe.activation.spec.bits if recipe.activation else 16)


def test_the_table_holds_what_is_promised():
    names = set(recipes.names())
    assert {"w8a16", "w8a8", "w4a8", "w4a4", "w4a4-hadamard", "w8a8-fp8", "w8a8-mxfp8", "w4a16-mxfp4"} <= names
    assert {"w4a4-mxfp4", "w4a4-nvfp4", "w4a16-nvfp4", "w4a16-gptq-g64", "w3a16-gptq-g64", "w2a16-gptq-g32"} <= names
    assert recipes.get("w4a4-hadamard").transform == HadamardRotation()


@pytest.mark.parametrize(
    ("nearest", "feedback"),
    [
        ("w4a16-g64", "w4a16-gptq-g64"),
        ("w3a16-g64", "w3a16-gptq-g64"),
        ("w2a16-g32", "w2a16-gptq-g32"),
        ("w4a8", "w4a8-gptq"),
    ],
)
def test_twins_differ_in_rounding_alone(nearest, feedback):
    a, b = recipes.get(nearest), recipes.get(feedback)
    assert (a.weight, a.grid, a.head, a.activation) == (b.weight, b.grid, b.head, b.activation)
    assert a.rounding == RTN()
    assert isinstance(b.rounding, GPTQ)
    assert b.rounding.static_groups


def test_groups_are_not_the_demo_models_own():
    # its weights lie on a 4-bit grid in groups of 32: that grid would round nothing
    for name in recipes.names():
        assert not re.match(r"u?int4:g(16|32)$", recipes.get(name).weight.format)


@pytest.mark.parametrize(
    ("typo", "near"), [("w4a16-gtpq-g64", "w4a16-gptq-g64"), ("w8a61", "w8a16"), ("W8A8", "w8a8"), ("w3", "w3a16-g64")]
)
def test_an_unknown_recipe_is_answered_with_the_near_one(typo, near):
    with pytest.raises(ValueError, match=f'did you mean "{near}"'):
        recipes.get(typo)


def test_a_recipe_is_its_own_name():
    mine = Recipe("w4a16-mine", "", INT4, grid=MinMax())
    assert recipes.get(mine) is mine
