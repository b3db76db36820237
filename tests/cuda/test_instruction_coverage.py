"""Every PTX instruction of the library's kernels has a test of its own on the emulator."""

import pytest
from cuda import kernels
from emu import emulator
from emu.instructions.coverage import untested


@pytest.mark.parametrize("arch", kernels.ARCHS)
def test_every_instruction_of_the_kernels_has_a_test(arch: str) -> None:
    kernels.library()
    with emulator.settings(arch=arch):
        used = emulator.registered_opcodes()
    assert len(used) > 20
    missing = {name: forms for name in used if (forms := untested(used[name]))}
    assert not missing, missing
