"""Every PTX instruction of the library's kernels has a test of its own on the emulator."""

import pytest
from cuda import kernels
from emu import emulator
from emu.instructions.coverage import untested


@pytest.mark.parametrize("arch", kernels.ARCHS)
def test_every_instruction_of_the_kernels_has_a_test(arch: str) -> None:
    kernels.library()
    with emulator.settings(arch=arch):
        registered = emulator.registered_opcodes()
    # a process that ran the third-party cases before holds their kernels as well
    used = {name: opcodes for name, opcodes in registered.items() if name.startswith("_ZN6lowbit")}
    assert len(used) > 20
    missing = {name: forms for name in used if (forms := untested(used[name]))}
    assert not missing, missing
