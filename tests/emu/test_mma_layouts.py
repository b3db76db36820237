"""Fragment layouts of mma.sync against the traits of CuTe."""

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from emu.mma_run import HERE, VARIANTS, compile_and_run, own_layouts, write_ptx
from emu.toolchain import cutlass_include, nvcc


@pytest.fixture(scope="session")
def layouts():
    return own_layouts()


@pytest.fixture(scope="session")
def cute(tmp_path_factory):
    # what nvcc itself includes: the nvcc of the PATH may be a script in front of the toolkit
    plan = subprocess.run(
        [nvcc(), "--dryrun", "-x", "cu", "-E", os.devnull], check=True, capture_output=True, text=True
    )
    toolkit = Path(re.search(r"TOP=(\S+)", plan.stderr)[1]) / "include"
    include = [toolkit, toolkit / "cccl", cutlass_include()]
    return compile_and_run(HERE / "cute_layouts.cpp", include, [], tmp_path_factory.mktemp("cute_layouts"))


# CuTe has k advance by 4 a thread where each thread holds 8 elements: threads overlap and half of B is in no register.
CUTE_IS_WRONG = ("m16n8k32_s4", "b")


def test_fragment_layouts_are_those_of_cute(layouts, cute):
    compared = 0
    for (file, matrix), cells in cute.items():
        if matrix in ("sa", "sb"):
            continue
        own = layouts[file, matrix]
        distinct = {tuple(c) for c in own.reshape(-1, 2)}
        assert len(distinct) == own.shape[0] * own.shape[1], f"{file} {matrix}: own layout is no bijection"
        if (file, matrix) == CUTE_IS_WRONG:
            assert len({tuple(c) for c in cells.reshape(-1, 2)}) < cells.shape[0] * cells.shape[1]
            continue
        np.testing.assert_array_equal(own, cells, err_msg=f"{file} {matrix}")
        compared += 1
    assert compared >= 3 * 22 - 1
    files = {f for f, _ in cute}
    assert files == {f for f, _ in VARIANTS} - {"m16n8k16_f8"}  # which CuTe has no trait for


def test_scale_lanes_are_those_of_cute(layouts, cute):
    """CuTe has thread id 0 everywhere; a lane whose register is not read still has the coordinates of one that is."""
    for file, blocks in (("m16n8k32_mxf8f6f4", 1), ("m16n8k64_mxf4", 4)):
        a, b = cute[file, "sa"], cute[file, "sb"]
        k = a.shape[1]
        for row in range(16):
            lane = layouts["scale_lanes", "a"][row][0]
            assert (a[lane, :, 0] == row).all()
            assert (a[lane, :, 1] == np.arange(k)).all()
        for col in range(8):
            lane = layouts["scale_lanes", "b"].reshape(-1, 2)[4 * col][1]
            assert (b[lane, :, 0] == col).all()
        assert k % blocks == 0
    threads = layouts["scale_lanes", "a"]
    assert sorted(threads.reshape(-1)) == list(range(32))  # the two thread ids share out the warp
    assert sorted(layouts["scale_lanes", "b"].reshape(-1, 2)[:, 1]) == list(range(32))


def test_the_kernels_are_what_the_script_writes():
    written = {p.stem: p.read_text() for p in HERE.glob("*.ptx")}
    assert written == write_ptx.files()
