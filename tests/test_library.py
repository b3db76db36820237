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


def test_a_torch_without_cuda_loads_no_kernels(tmp_path: Path):
    there = tmp_path / "_cuda.so"
    there.write_text("not looked at")
    cuda, reason = library.load_cuda(there, cuda=None)
    assert cuda is None
    assert "has no CUDA" in reason


def test_a_build_without_cuda_says_how_to_get_it(tmp_path: Path):
    cuda, reason = library.load_cuda(tmp_path / "_cuda.so", cuda="13.0")
    assert cuda is None
    assert "this build has no CUDA kernels; rebuild with an nvcc" in reason


@pytest.mark.parametrize(("version", "cause"), [("12.8", "linked with CUDA 13"), ("13.0", "_cuda\\.so: ")])
def test_kernels_that_do_not_load_are_a_warning(tmp_path: Path, version: str, cause: str):
    """The CPU's ops go on."""
    broken = tmp_path / "_cuda.so"
    broken.write_text("no library")
    with pytest.warns(UserWarning, match=rf"with CUDA {version}, got: .*({cause}).*; CUDA tensors are refused"):
        cuda, reason = library.load_cuda(broken, cuda=version)
    assert cuda is None
    assert "must load into torch" in reason
