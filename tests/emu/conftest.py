"""A test of the emulator finds no report, count or sticking error of another."""

from collections.abc import Iterator

import pytest
from emu import emulator


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    emulator.clear()
    yield
    emulator.clear()
