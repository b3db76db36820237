"""The frame of the kernels that test the engine, and how they are run."""

import numpy as np
from emu import emulator

# Every kernel gets one pointer. On entry %rd1 is it, %r1 the thread's index in the block, %r2 the block's, %r3 the
# thread's in the grid, %rd2 the address of its own 32-bit word of the output.
HEAD = """
.version 9.0
.target sm_80
.address_size 64
"""
ENTRY = """
.visible .entry k(.param .u64 k_param_0)
{
  .reg .pred %p<16>;
  .reg .b32 %r<64>;
  .reg .b64 %rd<32>;
  ld.param.u64 %rd1, [k_param_0];
  cvta.to.global.u64 %rd1, %rd1;
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r4, %ntid.x;
  mad.lo.u32 %r3, %r2, %r4, %r1;
  mul.wide.u32 %rd3, %r3, 4;
  add.u64 %rd2, %rd1, %rd3;
"""


def kernel(body, outside="", target="sm_80"):
    return HEAD.replace("sm_80", target) + outside + ENTRY + body + "\n}\n"


def line_of(source, text, occurrence=0):
    lines = [n for n, line in enumerate(source.splitlines(), 1) if text in line]
    return lines[occurrence]


def run(source, grid, block, out, **settings):
    """Launches k over `out` and gives what was found."""
    emulator.clear()
    with emulator.settings(**settings), emulator.mapped(out):
        emulator.Module(source).try_launch("k", grid, block, np.uint64(out.ctypes.data))
        return emulator.reports()


def words(n, value=0):
    return np.full(n, value, dtype=np.uint32)
