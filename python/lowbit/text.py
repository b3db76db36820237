"""English text that every machine has: Python's own reference (`pydoc_data.topics`), for calibration and evaluation
when the user names no file. The text is that of the running Python, so figures from two Python versions differ."""

from pathlib import Path
from typing import Literal

Part = Literal["calibration", "evaluation"]

# every fourth topic is kept for evaluation
_EVALUATION_EVERY = 4


def default_text(part: Part) -> str:
    """The `part` of Python's reference topics. No paragraph stands in both parts, nor twice in one: the topics quote
    one another at length, which would make the evaluation text partly known."""
    from pydoc_data.topics import topics

    seen: set[str] = set()
    kept: list[str] = []
    names = sorted(topics)
    evaluation = names[::_EVALUATION_EVERY]
    # evaluation first: what it quotes from elsewhere stays there
    for name in [*evaluation, *(n for n in names if n not in evaluation)]:
        mine = (name in evaluation) == (part == "evaluation")
        for paragraph in topics[name].split("\n\n"):
            key = " ".join(paragraph.split())
            if key and key not in seen:
                seen.add(key)
                if mine:
                    kept.append(paragraph.strip("\n"))
    return "\n\n".join(kept)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file; ValueError when it is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        got = f"byte {error.object[error.start]:#04x} at {error.start}"
        raise ValueError(f"text: {path} must be UTF-8, got {got}; convert it, for instance with iconv") from None
