"""Fixtures shared by all tests."""

from collections.abc import Iterator

import lowbit  # noqa: F401
import lowbit._C as _C
import pytest


@pytest.fixture(params=_C.isa_list())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once for every ISA of this machine, with that ISA's kernels."""
    before = _C.isa()
    _C.force_isa(request.param)
    yield request.param
    _C.force_isa(before)
