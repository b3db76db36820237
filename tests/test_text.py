"""The text that every machine has."""

from pathlib import Path

import pytest
from lowbit.text import default_text, read_text


def paragraphs(text: str) -> list[str]:
    return [" ".join(p.split()) for p in text.split("\n\n") if p.strip()]


def test_the_parts_share_no_paragraph() -> None:
    calibration, evaluation = (paragraphs(default_text(part)) for part in ("calibration", "evaluation"))
    assert not set(calibration) & set(evaluation)
    assert len(set(evaluation)) == len(evaluation)


def test_both_parts_are_long_enough() -> None:
    """16,896 tokens are needed of each; a token of English prose is about four characters, of code about three."""
    assert len(default_text("evaluation")) > 5 * 16896
    assert len(default_text("calibration")) > 5 * 16896


def test_it_is_the_same_every_time() -> None:
    assert default_text("evaluation") == default_text("evaluation")


def test_files_are_utf8(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("naïve".encode())
    assert read_text(path) == "naïve"
    path.write_bytes("naïve".encode("latin-1"))
    with pytest.raises(ValueError, match="must be UTF-8, got byte 0xef at 2; convert it"):
        read_text(path)
