"""The frame of the kernels that test the memory, and how they are run."""

from __future__ import annotations

from typing import Any

import numpy as np
from emu import emulator

# Every kernel gets two pointers, %rd1 and %rd2. %r1 is the thread, %r2 the block, %r3 the thread in the grid, %r4 the
# lane; %rd4 and %rd5 are the addresses of the thread's own word behind the pointers, %r6 that in shared memory (which
# begins at %r5).
HEAD = """.version 9.0
.target {target}
.address_size 64
.visible .entry k(.param .u64 p, .param .u64 q)
{{
  .shared .align 16 .b8 smem[{shared}];
  .reg .pred %p<16>;
  .reg .b16 %h<16>;
  .reg .b32 %r<64>;
  .reg .f32 %f<16>;
  .reg .b64 %rd<64>;
  ld.param.u64 %rd1, [p];
  ld.param.u64 %rd2, [q];
  cvta.to.global.u64 %rd1, %rd1;
  cvta.to.global.u64 %rd2, %rd2;
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r10, %ntid.x;
  mad.lo.u32 %r3, %r2, %r10, %r1;
  and.b32 %r4, %r1, 31;
  mul.wide.u32 %rd3, %r3, 4;
  add.u64 %rd4, %rd1, %rd3;
  add.u64 %rd5, %rd2, %rd3;
  mov.u32 %r5, smem;
  mad.lo.u32 %r6, %r1, 4, %r5;
"""


def kernel(body: str, shared: int = 4096, target: str = "sm_80") -> str:
    return HEAD.format(target=target, shared=shared) + body + "\n  ret;\n}\n"


def text_of(source: str, line: int) -> str:
    return source.splitlines()[line - 1].strip()


def run(source: str, blocks: int, size: int, *arguments: Any, **settings: Any) -> list[dict[str, Any]]:
    """Launches k and gives what was found. NumPy arrays are mapped, device arrays passed as they are."""
    emulator.clear()
    hosts = [a for a in arguments if isinstance(a, np.ndarray)]
    values = [np.uint64(a.ctypes.data) if isinstance(a, np.ndarray) else a for a in arguments]
    values += [np.uint64(0)] * (2 - len(values))
    with emulator.settings(**settings), emulator.mapped(*hosts):
        emulator.Module(source).try_launch("k", blocks, size, *values)
        found = emulator.reports()
    emulator.clear()
    return found


def only(found: list[dict[str, Any]], finding: str) -> dict[str, Any]:
    assert {r["finding"] for r in found} == {finding}, [r["sentence"] for r in found]
    return found[0]


def words(n: int, value: int = 0) -> np.ndarray:
    return np.full(n, value, dtype=np.uint32)
