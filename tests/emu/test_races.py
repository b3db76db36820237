"""Races are judged by happens-before: barriers, fences, releases and acquires at their scopes."""

from __future__ import annotations

import numpy as np
import pytest
from emu import emulator
from emu.memory_kernel import kernel, only, run, text_of, words

# ---- races

EXCHANGE = "  st.shared.u32 [%r6], %r1;\n  {order}\n  xor.b32 %r7, %r6, {other};\n  ld.shared.u32 %r8, [%r7];"

RACES = {
    "lanes of one warp": (EXCHANGE.format(order="", other=4), 1, 32, "race"),
    "lanes of one warp behind bar.warp.sync": (EXCHANGE.format(order="bar.warp.sync -1;", other=4), 1, 32, None),
    "lanes of one warp behind a shuffle": (
        EXCHANGE.format(order="shfl.sync.idx.b32 %r9, %r1, 0, 31, -1;", other=4), 1, 32, "race"),
    "lanes of one warp behind a barrier of the block": (EXCHANGE.format(order="bar.sync 0;", other=4), 1, 32, None),
    "warps": (EXCHANGE.format(order="bar.warp.sync -1;", other=128), 1, 64, "race"),
    "warps behind a barrier": (EXCHANGE.format(order="bar.sync 0;", other=128), 1, 64, None),
    "warps behind a barrier of their own": (EXCHANGE.format(order="barrier.sync 3, 64;", other=128), 1, 64, None),
    "a write after a read": (
        "  st.shared.u32 [%r6], %r1;\n  bar.sync 0;\n  xor.b32 %r7, %r6, 128;\n  ld.shared.u32 %r8, [%r7];\n"
        "  st.shared.u32 [%r6], %r8;", 1, 64, "race"),
    "a write after a read and a barrier": (
        "  st.shared.u32 [%r6], %r1;\n  bar.sync 0;\n  xor.b32 %r7, %r6, 128;\n  ld.shared.u32 %r8, [%r7];\n"
        "  bar.sync 0;\n  st.shared.u32 [%r6], %r8;", 1, 64, None),
    "half a warp behind bar.warp.sync of that half": (
        "  st.shared.u32 [%r6], %r1;\n  setp.lt.u32 %p1, %r4, 16;\n  @%p1 bra LOW;\n  bar.warp.sync 0xffff0000;\n"
        "  bra BOTH;\n"
        "LOW:\n  bar.warp.sync 0x0000ffff;\nBOTH:\n  xor.b32 %r7, %r6, 4;\n  ld.shared.u32 %r8, [%r7];", 1, 32, None),
    "across the halves": (
        "  st.shared.u32 [%r6], %r1;\n  setp.lt.u32 %p1, %r4, 16;\n  @%p1 bra LOW;\n  bar.warp.sync 0xffff0000;\n"
        "  bra BOTH;\n"
        "LOW:\n  bar.warp.sync 0x0000ffff;\nBOTH:\n  xor.b32 %r7, %r6, 64;\n"
        "  ld.shared.u32 %r8, [%r7];", 1, 32, "race"),
    "bytes side by side": (
        "  add.u32 %r7, %r5, %r1;\n  cvt.u16.u32 %h1, %r1;\n  st.shared.u8 [%r7], %h1;\n  ld.shared.u8 %h2, [%r7];\n"
        "  st.shared.u8 [%r7], %h2;", 1, 64, None),
    "halves side by side": (
        "  mad.lo.u32 %r7, %r1, 2, %r5;\n  cvt.u16.u32 %h1, %r1;\n  st.shared.u16 [%r7], %h1;\n"
        "  ld.shared.u16 %h2, [%r7];\n"
        "  st.shared.u16 [%r7], %h2;", 1, 64, None),
    "a byte of the neighbour": (
        "  add.u32 %r7, %r5, %r1;\n  cvt.u16.u32 %h1, %r1;\n  st.shared.u8 [%r7], %h1;\n  xor.b32 %r7, %r7, 1;\n"
        "  ld.shared.u8 %h2, [%r7];", 1, 32, "race"),
    "bytes written, the word read": (
        "  add.u32 %r7, %r5, %r1;\n  cvt.u16.u32 %h1, %r1;\n  st.shared.u8 [%r7], %h1;\n"
        "  and.b32 %r7, %r7, 0xfffffffc;\n"
        "  ld.shared.u32 %r8, [%r7];", 1, 32, "race"),
    "bytes written, the word read behind a barrier": (
        "  add.u32 %r7, %r5, %r1;\n  cvt.u16.u32 %h1, %r1;\n  st.shared.u8 [%r7], %h1;\n  bar.sync 0;\n"
        "  and.b32 %r7, %r7, 0xfffffffc;\n  ld.shared.u32 %r8, [%r7];\n  bar.sync 0;\n"
        "  st.shared.u32 [%r6], %r8;", 1, 128, None),
    "one word, different values": ("  st.shared.u32 [%r5], %r1;", 1, 32, "race"),
    "one word, one value": ("  st.shared.u32 [%r5], 7;", 1, 32, None),
    "one word, one value, two warps": ("  st.shared.u32 [%r5], 7;", 1, 64, "race"),
    "blocks": ("  st.global.u32 [%rd1], %r2;", 2, 1, "race"),
    "words of blocks": ("  st.global.u32 [%rd4], %r2;", 4, 32, None),
    "a block reads what another writes": (
        "  setp.eq.u32 %p1, %r2, 0;\n  @%p1 st.global.u32 [%rd1], 1;\n"
        "  @!%p1 ld.global.u32 %r7, [%rd1];", 2, 1, "race"),
    "volatile accesses": (
        "  setp.eq.u32 %p1, %r2, 0;\n  @%p1 st.volatile.global.u32 [%rd1], 1;\n"
        "  @!%p1 ld.volatile.global.u32 %r7, [%rd1];",
        2, 1, None),
    "a weak read of a volatile write": (
        "  setp.eq.u32 %p1, %r2, 0;\n  @%p1 st.volatile.global.u32 [%rd1], 1;\n"
        "  @!%p1 ld.global.u32 %r7, [%rd1];", 2, 1, "race"),
    "atomics of all blocks": ("  red.global.add.u32 [%rd1], 1;\n  atom.global.max.u32 %r7, [%rd1], %r3;", 4, 64, None),
    "atomics of scope cta between blocks": ("  red.relaxed.cta.global.add.u32 [%rd1], 1;", 2, 1, "race"),
    "atomics of scope cta in a block": ("  red.relaxed.cta.global.add.u32 [%rd1], 1;", 1, 64, None),
    "an atomic and a weak read": ("  red.global.add.u32 [%rd1], 1;\n  ld.global.u32 %r7, [%rd1];", 2, 1, "race"),
    "shared atomics": ("  setp.eq.u32 %p1, %r1, 0;\n  @%p1 st.shared.u32 [%r5], 0;\n  bar.sync 0;\n"
                       "  red.shared.add.u32 [%r5], 1;\n  bar.sync 0;\n  ld.shared.u32 %r7, [%r5];", 1, 128, None),
    "shared atomics read too early": (
        "  setp.eq.u32 %p1, %r1, 0;\n  @%p1 st.shared.u32 [%r5], 0;\n  bar.sync 0;\n  red.shared.add.u32 [%r5], 1;\n"
        "  ld.shared.u32 %r7, [%r5];", 1, 128, "race"),
    "arrive and wait": (
        # the first warp gives, the second takes
        "  setp.lt.u32 %p1, %r1, 32;\n  @!%p1 bra TAKE;\n  st.shared.u32 [%r6], %r1;\n  barrier.arrive 1, 64;\n  ret;\n"
        "TAKE:\n  barrier.sync 1, 64;\n  xor.b32 %r7, %r6, 128;\n  ld.shared.u32 %r8, [%r7];", 1, 64, None),
    "what comes behind arrive is not given": (
        "  setp.lt.u32 %p1, %r1, 32;\n  @!%p1 bra TAKE;\n  barrier.arrive 1, 64;\n  st.shared.u32 [%r6], %r1;\n  ret;\n"
        "TAKE:\n  st.shared.u32 [%r6], 0;\n  barrier.sync 1, 64;\n  xor.b32 %r7, %r6, 128;\n"
        "  ld.shared.u32 %r8, [%r7];",
        1, 64, "race"),
}  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", RACES)
def test_race(name: str, seed: int) -> None:
    body, blocks, threads, finding = RACES[name]
    source = kernel(body)
    # a read that comes before the write it waits for reads unwritten memory: that is another test
    found = run(source, blocks, threads, words(1024), seed=seed, uninitialized="ignore")
    if finding is None:
        assert not found, [r["sentence"] for r in found]
        return
    report = only(found, finding)
    other = report["other"]
    assert other is not None
    assert (report["block"], report["thread"]) != (other["block"], other["thread"])
    assert text_of(source, report["line"]) == report["text"] or report["text"]
    assert other["line"] > 0
    assert ("shared address" if "shared" in body else "mapped host memory of 4096 bytes") in report["message"]


# ---- release and acquire

# Block 0 writes %rd1[0] and raises the flag %rd1[1]; block 1 waits for the flag and reads.
MESSAGE = """  setp.ne.u32 %p1, %r2, 0;
  @%p1 bra TAKE;
  st.global.u32 [%rd1], 42;
  {release}
  ret;
TAKE:
  {acquire}
  setp.eq.u32 %p2, %r7, 0;
  @%p2 bra TAKE;
  {fence}
  ld.global.u32 %r8, [%rd1];
  st.global.u32 [%rd2], %r8;"""

MESSAGES = {
    "release and acquire": (
        "st.release.gpu.global.u32 [%rd1+4], 1;",
        "ld.acquire.gpu.global.u32 %r7, [%rd1+4];", "", True),
    "of scope sys": ("st.release.sys.global.u32 [%rd1+4], 1;", "ld.acquire.sys.global.u32 %r7, [%rd1+4];", "", True),
    "of scope cta": ("st.release.cta.global.u32 [%rd1+4], 1;", "ld.acquire.cta.global.u32 %r7, [%rd1+4];", "", False),
    "release of scope cta": ("fence.acq_rel.cta;\n st.relaxed.gpu.global.u32 [%rd1+4], 1;",
                             "ld.acquire.gpu.global.u32 %r7, [%rd1+4];", "", False),
    "fences": ("membar.gl;\n"
        " st.volatile.global.u32 [%rd1+4], 1;", "ld.volatile.global.u32 %r7, [%rd1+4];", "membar.gl;", True),
    "no fence before the flag": ("st.volatile.global.u32 [%rd1+4], 1;", "ld.volatile.global.u32 %r7, [%rd1+4];",
                                 "membar.gl;", False),
    "no fence behind the flag": ("membar.gl;\n st.volatile.global.u32 [%rd1+4], 1;",
                                 "ld.volatile.global.u32 %r7, [%rd1+4];", "", False),
    "a fence of scope cta behind the flag": (
        "membar.gl;\n st.volatile.global.u32 [%rd1+4], 1;",
        "ld.volatile.global.u32 %r7, [%rd1+4];", "membar.cta;", False),
    "acquire of scope cta": (
        "st.release.gpu.global.u32 [%rd1+4], 1;", "ld.acquire.cta.global.u32 %r7, [%rd1+4];", "", False),
    "an atomic flag": ("fence.acq_rel.gpu;\n red.global.add.u32 [%rd1+4], 1;", "atom.global.or.b32 %r7, [%rd1+4], 0;",
                       "fence.acq_rel.gpu;", True),
    "an atomic of release": (
        "red.release.gpu.global.add.u32 [%rd1+4], 1;",
        "atom.acquire.gpu.global.or.b32 %r7, [%rd1+4], 0;",
                             "", True),
    "a relaxed atomic": (
        "red.relaxed.gpu.global.add.u32 [%rd1+4], 1;",
        "atom.acquire.gpu.global.or.b32 %r7, [%rd1+4], 0;",
                         "", False),
    "fences of one side": ("fence.release.gpu;\n st.relaxed.gpu.global.u32 [%rd1+4], 1;",
                           "ld.relaxed.gpu.global.u32 %r7, [%rd1+4];", "fence.acquire.gpu;", True),
    "fences of the wrong side": ("fence.acquire.gpu;\n st.relaxed.gpu.global.u32 [%rd1+4], 1;",
                                 "ld.relaxed.gpu.global.u32 %r7, [%rd1+4];", "fence.release.gpu;", False),
}  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", MESSAGES)
def test_message(name: str, seed: int) -> None:
    release, acquire, fence, right = MESSAGES[name]
    source = kernel(MESSAGE.format(release=release, acquire=acquire, fence=fence))
    data, out = words(2), words(1)
    found = run(source, 2, 1, data, out, seed=seed)
    if right:
        assert not found, [r["sentence"] for r in found]
        assert out[0] == 42
    else:
        only(found, "race")


# A chain: block 0 tells block 1, block 1 tells block 2, which reads what block 0 wrote.
CHAIN = """  mul.wide.u32 %rd6, %r2, 4;
  add.u64 %rd6, %rd1, %rd6;
  setp.eq.u32 %p1, %r2, 0;
  @%p1 st.global.u32 [%rd2], 42;
  @%p1 bra GIVE;
TAKE:
  ld.acquire.gpu.global.u32 %r7, [%rd6];
  setp.eq.u32 %p2, %r7, 0;
  @%p2 bra TAKE;
GIVE:
  setp.eq.u32 %p3, %r2, 2;
  @%p3 bra READ;
  st.{order}.gpu.global.u32 [%rd6+4], 1;
  ret;
READ:
  ld.global.u32 %r8, [%rd2];
  st.global.u32 [%rd2+4], %r8;"""


def test_causality_is_transitive() -> None:
    out = words(2)
    assert not run(kernel(CHAIN.format(order="release")), 3, 1, words(4), out)
    assert out[1] == 42
    only(run(kernel(CHAIN.format(order="relaxed")), 3, 1, words(4), words(2)), "race")


# Each block writes 64 words, its threads meet, one counts the block; the last block reads all.
LAST_BLOCK = """  st.global.u32 [%rd4], %r3;
  {before}
  bar.sync 0;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra MEET;
  {fence}
  atom.global.inc.u32 %r7, [%rd2], 1000;
  {acquire}
  st.shared.u32 [%r5], %r7;
MEET:
  bar.sync 0;
  ld.shared.u32 %r7, [%r5];
  setp.ne.u32 %p2, %r7, 7;
  @%p2 ret;
  mov.u32 %r8, 0;
  mov.u32 %r9, 0;
LOOP:
  mad.lo.u32 %r11, %r9, 64, %r1;
  mul.wide.u32 %rd6, %r11, 4;
  add.u64 %rd6, %rd1, %rd6;
  ld.global.u32 %r12, [%rd6];
  add.u32 %r8, %r8, %r12;
  add.u32 %r9, %r9, 1;
  setp.lt.u32 %p3, %r9, 8;
  @%p3 bra LOOP;
  red.global.add.u32 [%rd2+4], %r8;"""


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("before", "fence", "acquire", "right"),
    [
        ("", "membar.gl;", "membar.gl;", True),
        ("membar.gl;", "", "membar.gl;", True),  # every thread fences what it wrote, one counts behind the barrier
        ("", "", "membar.gl;", False),
        ("", "membar.gl;", "", False),
        ("", "membar.cta;", "membar.gl;", False),
    ],
)
def test_last_block(before: str, fence: str, acquire: str, right: bool, seed: int) -> None:
    source = kernel(LAST_BLOCK.format(before=before, fence=fence, acquire=acquire))
    out = words(2)
    found = run(source, 8, 64, words(512), out, seed=seed)
    if right:
        assert not found, [r["sentence"] for r in found]
        assert out[1] == sum(range(512))
    else:
        only(found, "race")


# Decoupled look-back: block b waits for the flag of block b - 1, adds its prefix, publishes.
LOOK_BACK = """  mul.wide.u32 %rd6, %r2, 8;
  add.u64 %rd6, %rd1, %rd6;
  add.u32 %r8, %r2, 1;
  setp.eq.u32 %p1, %r2, 0;
  @%p1 bra PUBLISH;
WAIT:
  ld.relaxed.gpu.global.u32 %r7, [%rd6+-4];
  setp.eq.u32 %p2, %r7, 0;
  @%p2 bra WAIT;
  {acquire}
  ld.global.u32 %r9, [%rd6+-8];
  add.u32 %r8, %r8, %r9;
PUBLISH:
  st.global.u32 [%rd6], %r8;
  {release}
  st.relaxed.gpu.global.u32 [%rd6+4], 1;"""


@pytest.mark.parametrize(("fence", "right"), [("fence.acq_rel.gpu;", True), ("", False)])
def test_look_back(fence: str, right: bool) -> None:
    state = words(2 * 16)
    found = run(kernel(LOOK_BACK.format(acquire=fence, release=fence)), 16, 1, state, order="ascending")
    if right:
        assert not found, [r["sentence"] for r in found]
        assert list(state[::2]) == [b * (b + 1) // 2 for b in range(1, 17)]
    else:
        only(found, "race")


def test_launches_are_ordered() -> None:
    source = kernel("  ld.global.u32 %r7, [%rd1];\n  add.u32 %r7, %r7, 1;\n  st.global.u32 [%rd1], %r7;")
    data = words(1)
    with emulator.mapped(data), emulator.silent():
        module = emulator.Module(source)
        for _ in range(3):
            module.launch("k", 1, 1, np.uint64(data.ctypes.data), np.uint64(0))
    assert data[0] == 3
