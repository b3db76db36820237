"""What the demo says of its table, and the picture."""

from pathlib import Path

import pytest
from lowbit import demo, recipes

GOOD = {
    "fp32": (10.0, 100, 10),
    "bf16": (10.0, 100, 10),
    "w8a16": (10.04, 100, 10),
    "w8a8": (10.1, 100, 10),
    "w4a16-g64": (12.0, 100, 10),
    "w4a16-gptq-g64": (11.0, 100, 20),
    "w4a8": (11.0, 200, 10),
    "w3a16-g64": (20.0, 100, 10),
    "w3a16-gptq-g64": (15.0, 100, 10),
    "w2a16-g32": (900.0, 100, 10),
    "w2a16-gptq-g32": (100.0, 100, 10),
    "w4a4": (50.0, 100, 10),
    "w4a4-hadamard": (20.0, 100, 10),
}


def rows(**changed: tuple[float | None, float, float]) -> list[dict[str, object]]:
    table = GOOD | {name.replace("_", "-"): values for name, values in changed.items()}
    keys = ("perplexity", "prefill_tok_s", "decode_tok_s")
    return [{"recipe": name, "bytes": 10**8, **dict(zip(keys, values, strict=True))} for name, values in table.items()]


def test_what_is_expected_holds() -> None:
    found = demo.findings(rows())
    assert len(found) == 8
    assert all(f.holds for f in found)
    assert [f.shown for f in found[:2]] == ["+0.40 %", "+1.00 %"]


@pytest.mark.parametrize(
    ("name", "values", "broken"),
    [
        ("w8a16", (10.06, 100, 10), "w8a16 at most 0.5 % above fp32"),
        ("w8a8", (10.3, 100, 10), "w8a8 at most 2 % above fp32"),
        ("w8a8", (None, 100, 10), "w8a8 at most 2 % above fp32"),
        ("w3a16_gptq_g64", (18.5, 100, 10), "w3a16-gptq-g64 at least 10 % below w3a16-g64"),
        ("w4a8", (11.0, 149, 10), "prefill of w4a8 at least 1.5 times fp32"),
        ("w4a16_gptq_g64", (11.0, 100, 14), "decode of w4a16-gptq-g64 at least 1.5 times fp32"),
    ],
)
def test_what_does_not_hold_is_said(name: str, values: tuple[float, float, float], broken: str) -> None:
    (bad,) = [f for f in demo.findings(rows(**{name: values})) if not f.holds]
    assert broken in bad.expected


def test_absent_recipes_are_not_judged() -> None:
    assert demo.findings(rows()[:2]) == []


def test_recipes_are_known_and_enough() -> None:
    assert set(demo.RECIPES) - {"bf16"} <= set(recipes.names())
    assert len(set(demo.RECIPES) - {"bf16"}) >= 10
    assert demo.SAVED in demo.RECIPES
    judged = {word for f in demo.findings(rows()) for word in f.expected.split() if word in GOOD}
    assert judged <= {"fp32", *demo.RECIPES}


def test_picture(tmp_path: Path) -> None:
    path = tmp_path / "table.png"
    demo.picture(rows(w4a4=(None, 100, 10)), path)
    assert path.read_bytes().startswith(b"\x89PNG")
