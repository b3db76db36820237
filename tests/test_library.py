"""What a user sees when the op library cannot be loaded."""

from pathlib import Path

import pytest
from lowbit import library


def test_an_old_torch_is_refused():
    with pytest.raises(ImportError, match=r"torch must be 2\.11 or newer, got 2\.9\.1; upgrade it"):
        library.load(installed="2.9.1")


@pytest.mark.parametrize("text", ["2.11.0", "2.13.0+cpu", "2.12.0a0+git1234567", "3.0.0"])
def test_new_versions_are_new_enough(text: str):
    assert library.torch_version(text) >= library.OLDEST_TORCH


def test_a_missing_library_names_the_way_out(tmp_path: Path):
    with pytest.raises(ImportError, match=r"got no .*_ops\.so; build it: pip install \."):
        library.load(tmp_path / "_ops.so")


def test_a_broken_library_names_the_way_out(tmp_path: Path):
    broken = tmp_path / "_ops.so"
    broken.write_text("no library")
    with pytest.raises(ImportError, match=r"must load into torch .*, got: .*; rebuild it"):
        library.load(broken)
