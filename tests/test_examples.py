"""The files of examples/ run as they stand, in a process of their own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parent.parent / "examples").glob("*.py"))


def run(path: Path) -> str:
    done = subprocess.run([sys.executable, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path) -> None:
    assert run(path)


def test_linear_of_another_package() -> None:
    """4-bit codes of a group of uniform weights lie at most half a step off: a step is 1/7 of the largest, so the
    relative error is 1/7 / sqrt(12) / (1/sqrt(3)) = 0.07 of the weights, and the output's alike."""
    (path,) = (p for p in EXAMPLES if p.stem == "linear")
    error = float(re.search(r"relative error of the output: ([\d.]+)", run(path))[1])
    assert 0.03 < error < 0.1
