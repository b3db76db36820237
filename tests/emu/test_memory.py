"""Every check of the memory of the emulator, where it must speak and where it must be silent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
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


# ---- bounds, alignment


def test_one_word_behind_the_end() -> None:
    source = kernel("  ld.global.u32 %r7, [%rd4+4];\n  st.global.u32 [%rd5], %r7;")
    report = only(run(source, 1, 32, emulator.array(words(32)), emulator.array(words(32))), "out_of_bounds")
    assert report["thread"] == [31, 0, 0]
    assert text_of(source, report["line"]).startswith("ld.global")
    assert "load of 4 bytes" in report["message"]
    assert "0 bytes behind the end of the allocation of 128 bytes" in report["message"]


def test_a_vector_that_straddles_the_end() -> None:
    source = kernel("  shl.b32 %r7, %r1, 4;\n  cvt.u64.u32 %rd6, %r7;\n  add.u64 %rd6, %rd1, %rd6;\n"
                    "  st.global.v4.u32 [%rd6], {%r1, %r1, %r1, %r1};")  # fmt: skip
    report = only(run(source, 1, 32, emulator.array(words(127))), "out_of_bounds")
    assert report["thread"] == [31, 0, 0]
    assert "store of 16 bytes" in report["message"]
    assert "byte 496 of the allocation of 508 bytes" in report["message"]


def test_use_after_free() -> None:
    freed = emulator.array(words(32))
    address = np.uint64(freed.pointer)
    del freed
    source = kernel("  ld.global.u32 %r7, [%rd4];")
    assert "byte 0 of memory that was freed" in only(run(source, 1, 1, address), "out_of_bounds")["message"]


def test_a_null_pointer() -> None:
    assert "null" in only(run(kernel("  ld.global.u32 %r7, [%rd1];"), 1, 1), "out_of_bounds")["message"]


def test_a_store_to_constants_is_refused() -> None:
    source = kernel("  mov.u64 %rd6, table;\n  st.global.u32 [%rd6], %r1;").replace(
        ".visible", ".const .align 4 .b32 table[4] = {1, 2, 3, 4};\n.visible"
    )
    assert "constant" in only(run(source, 1, 1), "out_of_bounds")["message"]


@pytest.mark.parametrize("shared", [64, 112])
def test_shared_bounds(shared: int) -> None:
    source = kernel("  st.shared.u32 [%r6], %r1;", shared)
    assert not run(source, 1, shared // 4)
    report = only(run(source, 1, shared // 4 + 1), "out_of_bounds")
    assert report["thread"] == [shared // 4, 0, 0]
    assert f"of {shared} bytes" in report["message"]


def test_dynamic_shared_bounds() -> None:
    source = (
        kernel("  mov.u32 %r7, dynamic;\n  mad.lo.u32 %r7, %r1, 4, %r7;\n  st.shared.u32 [%r7], %r1;", 16)
        .replace(".visible", ".extern .shared .align 16 .b8 dynamic[];\n.visible")
    )  # fmt: skip
    module = emulator.Module(source)
    with emulator.silent():
        module.launch("k", 1, 32, np.uint64(0), np.uint64(0), shared=128)
    emulator.clear()
    module.try_launch("k", 1, 32, np.uint64(0), np.uint64(0), shared=124)
    assert only(emulator.reports(), "out_of_bounds")["thread"] == [31, 0, 0]
    emulator.clear()


def test_a_generic_address_beyond_the_shared_window() -> None:
    source = kernel("  cvt.u64.u32 %rd6, %r6;\n  cvta.shared.u64 %rd6, %rd6;\n  st.u32 [%rd6], %r1;", 64)
    assert not run(source, 1, 16)
    assert "shared address 0x40" in only(run(source, 1, 17), "out_of_bounds")["message"]


@pytest.mark.parametrize(
    ("access", "align"),
    [
        ("ld.global.u16 %h1, [%rd1+1]", 2),
        ("ld.global.u32 %r7, [%rd1+2]", 4),
        ("ld.global.u64 %rd6, [%rd1+4]", 8),
        ("ld.global.v4.u32 {%r7, %r8, %r9, %r10}, [%rd1+8]", 16),
        ("ld.global.v2.u16 {%h1, %h2}, [%rd1+2]", 4),
        ("st.global.v2.u64 [%rd1+8], {%rd1, %rd2}", 16),
        ("st.shared.u64 [%r5+4], %rd1", 8),
        ("atom.global.add.u32 %r7, [%rd1+2], 1", 4),
        ("red.global.add.u64 [%rd1+4], 1", 8),
        ("cp.async.ca.shared.global [%r5+4], [%rd1], 8", 8),
        ("cp.async.ca.shared.global [%r5], [%rd1+8], 16", 16),
    ],
)
def test_misaligned(access: str, align: int) -> None:
    report = only(run(kernel(f"  {access};"), 1, 1, emulator.array(words(64))), "misaligned")
    assert f"multiple of {align}" in report["message"]


# ---- unwritten memory


def test_unwritten_memory_at_load() -> None:
    fresh = emulator.empty(32, np.uint32)
    source = kernel("  ld.global.u32 %r7, [%rd4];\n  st.global.u32 [%rd5], %r7;")
    report = only(run(source, 1, 32, fresh, emulator.empty(32, np.uint32)), "uninitialized")
    assert "load of 4 bytes that nobody wrote" in report["message"]
    assert "byte 0 of the allocation of 128 bytes" in report["message"]
    report = only(run(kernel("  ld.shared.u32 %r7, [%r6];"), 1, 32), "uninitialized")
    assert "shared address 0x0" in report["message"]


def test_one_unwritten_byte_of_a_vector() -> None:
    source = kernel("""  st.global.v2.u32 [%rd1], {%r1, %r1};
  st.global.u32 [%rd1+8], %r1;
  cvt.u16.u32 %h1, %r1;
  st.global.u16 [%rd1+12], %h1;
  st.global.u8 [%rd1+{last}], %h1;
  ld.global.v4.u32 {%r7, %r8, %r9, %r10}, [%rd1];""")
    found = run(source.replace("{last}", "14"), 1, 1, emulator.empty(4, np.uint32))
    assert only(found, "uninitialized")
    complete = source.replace("{last}", "14").replace(
        "  ld.global.v4", "  st.global.u8 [%rd1+15], %h1;\n  ld.global.v4"
    )
    assert not run(complete, 1, 1, emulator.empty(4, np.uint32))


def test_unwritten_memory_carried_to_its_use() -> None:
    carried = kernel("""  ld.shared.u32 %r7, [%r6];
  add.u32 %r8, %r7, 1;
  mov.u32 %r8, 3;
  st.global.u32 [%rd4], %r8;""")
    used = carried.replace("  mov.u32 %r8, 3;\n", "")
    fresh = emulator.empty(32, np.uint32)
    assert not run(carried, 1, 32, fresh, uninitialized="use")
    report = only(run(used, 1, 32, fresh, uninitialized="use"), "uninitialized")
    assert text_of(used, report["line"]).startswith("st.global")
    branch = kernel("  ld.shared.u32 %r7, [%r6];\n  setp.eq.u32 %p1, %r7, 0;\n  @%p1 st.global.u32 [%rd4], %r1;")
    assert only(run(branch, 1, 32, fresh, uninitialized="use"), "uninitialized")
    address = kernel(
        "  ld.shared.u32 %r7, [%r6];\n  and.b32 %r7, %r7, 12;\n  add.u32 %r7, %r7, %r5;\n  st.shared.u32 [%r7], 1;"
    )
    assert "address" in only(run(address, 1, 1, uninitialized="use"), "uninitialized")["message"]


def test_unwritten_memory_stays_so_through_memory() -> None:
    source = kernel("""  ld.shared.u32 %r7, [%r6];
  st.shared.u32 [%r6+1024], %r7;
  ld.shared.u32 %r8, [%r6+1024];
  st.global.u32 [%rd4], %r8;""")
    report = only(run(source, 1, 32, emulator.empty(32, np.uint32), uninitialized="use"), "uninitialized")
    assert text_of(source, report["line"]).startswith("st.global")


def test_discarded_memory_is_unwritten() -> None:
    source = kernel("  discard.global.L2 [%rd1], 128;\n  ld.global.u32 %r7, [%rd1];")
    aligned = np.zeros(256, np.uint32)
    view = aligned[(-aligned.ctypes.data // 4) % 32 :][:32]
    assert only(run(source, 1, 1, view), "uninitialized")


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


# ---- cp.async

COPY = """  shl.b32 %r7, %r1, 4;
  add.u32 %r8, %r5, %r7;
  cvt.u64.u32 %rd6, %r7;
  add.u64 %rd6, %rd1, %rd6;
  cp.async.cg.shared.global [%r8], [%rd6], 16;
  {body}"""

COPIES = {
    "waited for": ("cp.async.commit_group;\n  cp.async.wait_group 0;\n  ld.shared.u32 %r9, [%r8];", None),
    "wait_all without a group": ("cp.async.wait_all;\n  ld.shared.u32 %r9, [%r8];", None),
    "not waited for": ("ld.shared.u32 %r9, [%r8];", "async_in_flight"),
    "committed but not waited for": ("cp.async.commit_group;\n  ld.shared.u32 %r9, [%r8];", "async_in_flight"),
    "waited for with a group left": ("cp.async.commit_group;\n  cp.async.wait_group 1;\n  ld.shared.u32 %r9, [%r8];",
                                     "async_in_flight"),
    "not in the group that is waited for": ("cp.async.wait_group 0;\n  ld.shared.u32 %r9, [%r8];", "async_in_flight"),
    "an empty group behind it": (
        "cp.async.commit_group;\n  cp.async.commit_group;\n  cp.async.wait_group 1;\n"
        "  ld.shared.u32 %r9, [%r8];", None),
    "destination written": ("st.shared.u32 [%r8], 1;", "async_in_flight"),
    "destination copied to twice": ("cp.async.cg.shared.global [%r8], [%rd6], 16;", "async_in_flight"),
    "source written by its own thread": (
        "cp.async.commit_group;\n  st.global.u32 [%rd6+4], 1;\n  cp.async.wait_group 0;", "async_in_flight"),
    "source written behind the wait": ("cp.async.wait_all;\n  st.global.u32 [%rd6+4], 1;", None),
    "read by another thread behind its wait alone": (
        "cp.async.wait_all;\n  xor.b32 %r8, %r8, 16;\n  ld.shared.u32 %r9, [%r8];", "race"),
    "read by another thread behind wait and barrier": (
        "cp.async.wait_all;\n  bar.sync 0;\n  xor.b32 %r8, %r8, 16;\n  ld.shared.u32 %r9, [%r8];", None),
    "barrier before the wait": (
        "cp.async.commit_group;\n  bar.sync 0;\n  cp.async.wait_group 0;\n  xor.b32 %r8, %r8, 16;\n"
        "  ld.shared.u32 %r9, [%r8];",
        "race"),
    "barrier alone": (
        "cp.async.commit_group;\n  bar.sync 0;\n  xor.b32 %r8, %r8, 16;\n"
        "  ld.shared.u32 %r9, [%r8];", "async_in_flight"),
    "refilled before all have read": (
        "cp.async.wait_all;\n  bar.sync 0;\n  xor.b32 %r9, %r8, 512;\n  ld.shared.u32 %r11, [%r9];\n"
        "  cp.async.cg.shared.global [%r8], [%rd6], 16;\n  cp.async.wait_all;", "race"),
    "refilled when all have read": (
        "cp.async.wait_all;\n  bar.sync 0;\n  xor.b32 %r9, %r8, 512;\n  ld.shared.u32 %r11, [%r9];\n  bar.sync 0;\n"
        "  cp.async.cg.shared.global [%r8], [%rd6], 16;\n  cp.async.wait_all;", None),
}  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", COPIES)
def test_async_copy(name: str, seed: int) -> None:
    body, finding = COPIES[name]
    source = kernel(COPY.format(body=body))
    found = run(source, 1, 64, words(256, 5), seed=seed)
    if finding is None:
        assert not found, [r["sentence"] for r in found]
    else:
        kinds = {r["finding"] for r in found}
        assert finding in kinds, [r["sentence"] for r in found]
        assert kinds <= {finding, "async_in_flight"}


def test_a_read_before_the_wait_does_not_see_the_data() -> None:
    source = kernel("""  cp.async.ca.shared.global [%r6], [%rd4], 4;
  cp.async.commit_group;
  ld.shared.u32 %r8, [%r6];
  cp.async.wait_group 0;
  ld.shared.u32 %r9, [%r6];
  st.global.u32 [%rd5], %r8;
  st.global.u32 [%rd4], %r9;""")
    data, early = words(32, 77), words(32)
    run(source, 1, 32, data, early)
    assert not (early == 77).any()
    assert (data == 77).all()


def test_async_source_that_another_block_writes() -> None:
    # Block 0 releases before its copy has landed; block 1 writes the source then.
    source = kernel("""  setp.ne.u32 %p1, %r2, 0;
  @%p1 bra OTHER;
  cp.async.ca.shared.global [%r5], [%rd1], 16;
  cp.async.commit_group;
  st.release.gpu.global.u32 [%rd2], 1;
HOLD:
  ld.relaxed.gpu.global.u32 %r7, [%rd2+4];
  setp.eq.u32 %p2, %r7, 0;
  @%p2 bra HOLD;
  cp.async.wait_group 0;
  ret;
OTHER:
  ld.acquire.gpu.global.u32 %r7, [%rd2];
  setp.eq.u32 %p2, %r7, 0;
  @%p2 bra OTHER;
  st.global.u32 [%rd1+8], 1;
  st.relaxed.gpu.global.u32 [%rd2+4], 1;""")
    data = np.zeros(8, np.uint32)
    data = data[(-data.ctypes.data // 4) % 4 :][:4]
    report = only(run(source, 2, 1, data, words(2)), "async_in_flight")
    assert "source" in report["message"]
    assert text_of(source, report["other"]["line"]).startswith("st.global")


def test_async_zero_fill_and_ignored_source() -> None:
    source = kernel("""  shl.b32 %r7, %r1, 4;
  add.u32 %r8, %r5, %r7;
  cvt.u64.u32 %rd6, %r7;
  add.u64 %rd7, %rd1, %rd6;
  {copy}
  cp.async.wait_all;
  ld.shared.v4.u32 {%r11, %r12, %r13, %r14}, [%r8];
  add.u64 %rd8, %rd2, %rd6;
  st.global.v4.u32 [%rd8], {%r11, %r12, %r13, %r14};""")
    data = np.arange(1, 5 * 16 + 1, dtype=np.uint8)
    data = np.resize(data, 512)
    expected = np.zeros((32, 16), np.uint8)
    for lane in range(32):
        n = lane % 17
        expected[lane, :n] = data.reshape(32, 16)[lane, :n]
    source_size = "rem.u32 %r9, %r4, 17;\n  cp.async.cg.shared.global [%r8], [%rd7], 16, %r9;"
    sizes = emulator.empty((32, 16), np.uint8)
    assert not run(source.replace("{copy}", source_size), 1, 32, emulator.array(data), sizes)
    np.testing.assert_array_equal(sizes.get(), expected)
    # nothing is read where the size is zero: the source may lie outside
    outside = "mov.u32 %r9, 0;\n  cp.async.cg.shared.global [%r8], [%rd7+4096], 16, %r9;"
    assert not run(source.replace("{copy}", outside), 1, 32, emulator.array(data), sizes)
    assert not sizes.get().any()
    ignored = "setp.lt.u32 %p1, %r4, 8;\n  cp.async.cg.shared.global [%r8], [%rd7], 16, %p1;"
    assert not run(source.replace("{copy}", ignored), 1, 32, emulator.array(data), sizes)
    np.testing.assert_array_equal(sizes.get()[8:], data.reshape(32, 16)[8:])
    assert not sizes.get()[:8].any()
    too_large = "mov.u32 %r9, 17;\n  cp.async.cg.shared.global [%r8], [%rd7], 16, %r9;"
    only(run(source.replace("{copy}", too_large), 1, 32, emulator.array(data), sizes), "bad_argument")


# ---- matrices


def load_matrix(form: str, registers: int, data: np.ndarray, target: str = "sm_80") -> np.ndarray:
    """The registers [lane, register] that ldmatrix gives of 512 bytes, lane l naming the row of 16 bytes l."""
    names = ", ".join(f"%r{20 + k}" for k in range(registers))
    stores = "\n".join(f"  st.global.u32 [%rd8+{4 * k}], %r{20 + k};" for k in range(registers))
    source = kernel(f"""  shl.b32 %r7, %r1, 4;
  add.u32 %r8, %r5, %r7;
  cvt.u64.u32 %rd6, %r7;
  add.u64 %rd7, %rd1, %rd6;
  ld.global.v4.u32 {{%r11, %r12, %r13, %r14}}, [%rd7];
  st.shared.v4.u32 [%r8], {{%r11, %r12, %r13, %r14}};
  bar.sync 0;
  ldmatrix.sync.aligned.{form} {{{names}}}, [%r8];
  mad.wide.u32 %rd8, %r1, {4 * registers}, %rd2;
{stores}""", target=target)  # fmt: skip
    out = emulator.empty((32, registers), np.uint32)
    arch = target.removeprefix("sm_")
    found = run(source, 1, 32, emulator.array(data), out, arch=arch)
    assert not found, [r["sentence"] for r in found]
    return out.get()


RNG = np.random.default_rng(0)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("trans", [False, True])
def test_ldmatrix(count: int, trans: bool) -> None:
    data = RNG.integers(0, 2**16, (4, 8, 8), dtype=np.uint16)
    got = load_matrix(f"m8n8.x{count}{'.trans' if trans else ''}.shared.b16", count, data)
    for n in range(count):
        matrix = data[n].T if trans else data[n]
        # lane l holds columns 2 (l % 4) and the next of row l / 4
        np.testing.assert_array_equal(np.ascontiguousarray(got[:, n]).view(np.uint16).reshape(8, 8), matrix)


@pytest.mark.parametrize("count", [1, 2])
def test_ldmatrix_of_bytes(count: int) -> None:
    data = RNG.integers(0, 256, (2, 16, 16), dtype=np.uint8)
    got = load_matrix(f"m16n16.x{count}.trans.shared.b8", 2 * count, data, "sm_120a")
    for n in range(count):
        # register 0 of lane l: rows 4 (l % 4) and the next three of column l / 4; register 1: of column l / 4 + 8
        columns = np.ascontiguousarray(got[:, 2 * n : 2 * n + 2].T).view(np.uint8).reshape(16, 16)
        np.testing.assert_array_equal(columns, data[n].T)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("bits", [4, 6])
def test_ldmatrix_of_packed_elements(count: int, bits: int) -> None:
    codes = RNG.integers(0, 2**bits, (4, 8, 16), dtype=np.uint8)
    stream = np.unpackbits(codes[..., None], axis=-1, bitorder="little")[..., :bits].reshape(4, 8, 16 * bits)
    rows = np.full((4, 8, 16), 0xEE, np.uint8)
    rows[..., : 2 * bits] = np.packbits(stream, axis=-1, bitorder="little")
    source_format = {4: "b4x16_p64", 6: "b6x16_p32"}[bits]
    got = load_matrix(f"m8n16.x{count}.shared.b8x16.{source_format}", count, rows, "sm_120a")
    for n in range(count):
        np.testing.assert_array_equal(np.ascontiguousarray(got[:, n]).view(np.uint8).reshape(8, 16), codes[n])


@pytest.mark.parametrize("trans", [False, True])
def test_stmatrix_is_the_inverse(trans: bool) -> None:
    flag = ".trans" if trans else ""
    source = kernel(f"""  shl.b32 %r7, %r1, 4;
  add.u32 %r8, %r5, %r7;
  add.u32 %r21, %r1, 100;
  add.u32 %r22, %r1, 200;
  add.u32 %r23, %r1, 300;
  stmatrix.sync.aligned.m8n8.x4{flag}.shared.b16 [%r8], {{%r1, %r21, %r22, %r23}};
  bar.sync 0;
  ldmatrix.sync.aligned.m8n8.x4{flag}.shared.b16 {{%r24, %r25, %r26, %r27}}, [%r8];
  mad.wide.u32 %rd8, %r1, 16, %rd1;
  st.global.v4.u32 [%rd8], {{%r24, %r25, %r26, %r27}};""", target="sm_90")  # fmt: skip
    out = emulator.empty((32, 4), np.uint32)
    found = run(source, 1, 32, out, arch="90")
    assert not found, [r["sentence"] for r in found]
    np.testing.assert_array_equal(out.get(), np.arange(32)[:, None] + np.array([0, 100, 200, 300]))


def test_movmatrix_transposes() -> None:
    source = kernel("""  ld.global.u32 %r7, [%rd4];
  movmatrix.sync.aligned.m8n8.trans.b16 %r8, %r7;
  st.global.u32 [%rd5], %r8;""")
    data, out = RNG.integers(0, 2**16, (8, 8), dtype=np.uint16), emulator.empty((8, 8), np.uint16)
    assert not run(source, 1, 32, emulator.array(data), out)
    np.testing.assert_array_equal(out.get(), data.T)


def test_a_matrix_row_is_checked_like_a_load() -> None:
    load = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{%r20, %r21, %r22, %r23}}, [%r8{}];"
    body = "  shl.b32 %r7, %r1, 4;\n  add.u32 %r8, %r5, %r7;\n  {}" + load
    assert "ldmatrix row" in only(run(kernel(body.format("", "")), 1, 32), "uninitialized")["message"]
    only(run(kernel(body.format("", "+8")), 1, 32), "misaligned")
    only(run(kernel(body.format("", "+4096")), 1, 32), "out_of_bounds")
    # a row is read by the lane that names it: here that of the neighbour
    write, other = "st.shared.v4.u32 [%r8], {%r1, %r1, %r1, %r1};\n  ", "xor.b32 %r8, %r8, 16;\n  "
    assert only(run(kernel(body.format(write + other, "")), 1, 32), "race")["other"]
    assert not run(kernel(body.format(write + "bar.warp.sync -1;\n  " + other, "")), 1, 32)


# ---- counts


def traffic(body: str, opcode: str, arguments: tuple[Any, ...] = (), threads: int = 32) -> tuple[int, int, int, int]:
    emulator.clear()
    source = kernel(body, 32768)
    values = [*arguments, *[np.uint64(0)] * (2 - len(arguments))]
    with emulator.settings(uninitialized="ignore"), emulator.listed_instructions():
        emulator.Module(source).launch("k", 1, threads, *values)
    assert not emulator.reports()
    (launch,) = emulator.counts()
    (i,) = [i for i in launch["instructions"] if i["text"].startswith(opcode)]
    emulator.clear()
    return i["sectors"], i["sectors_least"], i["wavefronts"], i["wavefronts_least"]


@pytest.mark.parametrize(
    ("address", "access", "sectors", "least"),
    [
        ("mul.lo.u32 %r7, %r4, 4;", "ld.global.u32 %r8, [%rd6];", 4, 4),
        ("mul.lo.u32 %r7, %r4, 8;", "ld.global.u32 %r8, [%rd6];", 8, 4),
        ("mul.lo.u32 %r7, %r4, 128;", "ld.global.u32 %r8, [%rd6];", 32, 4),
        ("mov.u32 %r7, 0;", "ld.global.u32 %r8, [%rd6];", 1, 1),
        ("mul.lo.u32 %r7, %r4, 16;", "ld.global.v4.u32 {%r11, %r12, %r13, %r14}, [%rd6];", 16, 16),
        ("mad.lo.u32 %r7, %r4, 4, 4;", "ld.global.u32 %r8, [%rd6];", 5, 4),
        ("mul.lo.u32 %r7, %r4, 2;", "ld.global.u16 %h1, [%rd6];", 2, 2),
        ("sub.u32 %r7, 31, %r4; mul.lo.u32 %r7, %r7, 4;", "ld.global.u32 %r8, [%rd6];", 4, 4),
        # four lanes to a row of 64 bytes, rows 512 bytes apart
        ("shr.u32 %r7, %r4, 2; mul.lo.u32 %r7, %r7, 512; and.b32 %r8, %r4, 3; mad.lo.u32 %r7, %r8, 16, %r7;",
         "ld.global.v4.u32 {%r11, %r12, %r13, %r14}, [%rd6];", 16, 16),
    ],
)  # fmt: skip
def test_sectors(address: str, access: str, sectors: int, least: int) -> None:
    data = emulator.array(words(2048))
    body = f"  {address}\n  cvt.u64.u32 %rd6, %r7;\n  add.u64 %rd6, %rd6, %rd1;\n  {access}"
    assert traffic(body, "ld.global", (data,)) == (sectors, least, 0, 0)


@pytest.mark.parametrize(
    ("address", "access", "wavefronts", "least"),
    [
        ("mul.lo.u32 %r7, %r4, 4;", "ld.shared.u32 %r8, [%r9];", 1, 1),
        ("mul.lo.u32 %r7, %r4, 8;", "ld.shared.u32 %r8, [%r9];", 2, 1),
        ("mul.lo.u32 %r7, %r4, 128;", "ld.shared.u32 %r8, [%r9];", 32, 1),
        ("mul.lo.u32 %r7, %r4, 132;", "ld.shared.u32 %r8, [%r9];", 1, 1),
        ("mov.u32 %r7, 0;", "ld.shared.u32 %r8, [%r9];", 1, 1),
        ("mov.u32 %r7, 0;", "ld.shared.v4.u32 {%r11, %r12, %r13, %r14}, [%r9];", 1, 1),
        ("mul.lo.u32 %r7, %r4, 8;", "ld.shared.u64 %rd6, [%r9];", 2, 2),
        ("mul.lo.u32 %r7, %r4, 16;", "ld.shared.v4.u32 {%r11, %r12, %r13, %r14}, [%r9];", 4, 4),
        ("mul.lo.u32 %r7, %r4, 128;", "ld.shared.v4.u32 {%r11, %r12, %r13, %r14}, [%r9];", 32, 4),
        ("mul.lo.u32 %r7, %r4, 144;", "ld.shared.v4.u32 {%r11, %r12, %r13, %r14}, [%r9];", 4, 4),
        # rows of 128 bytes, chunk of 16 bytes = lane / 8 XOR row % 8
        ("and.b32 %r8, %r4, 7; shr.u32 %r11, %r4, 3; xor.b32 %r11, %r11, %r8; shl.b32 %r11, %r11, 4;"
         " mad.lo.u32 %r7, %r8, 128, %r11;", "ld.shared.v4.u32 {%r11, %r12, %r13, %r14}, [%r9];", 4, 4),
        # two words of one bank
        ("and.b32 %r7, %r4, 1; mul.lo.u32 %r7, %r7, 128;", "ld.shared.u32 %r8, [%r9];", 2, 1),
        # bytes of the same words
        ("mov.u32 %r7, %r4;", "ld.shared.u8 %h1, [%r9];", 1, 1),
    ],
)  # fmt: skip
def test_wavefronts(address: str, access: str, wavefronts: int, least: int) -> None:
    body = f"  {address}\n  add.u32 %r9, %r5, %r7;\n  {access}"
    assert traffic(body, "ld.shared") == (0, 0, wavefronts, least)


@pytest.mark.parametrize(("stride", "wavefronts"), [(16, 4), (64, 16), (128, 32), (144, 4)])
def test_wavefronts_of_ldmatrix(stride: int, wavefronts: int) -> None:
    body = (f"  mad.lo.u32 %r9, %r4, {stride}, %r5;\n"
            "  ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r20, %r21, %r22, %r23}, [%r9];")  # fmt: skip
    assert traffic(body, "ldmatrix") == (0, 0, wavefronts, 4)


# ---- atomics


@pytest.mark.parametrize(
    ("operation", "operand", "expected"),
    [
        ("add.u32", 5, 100 + 32 * 5),
        ("min.s32", -7, -7),
        ("max.u32", 1000, 1000),
        ("and.b32", 0x6C, 100 & 0x6C),
        ("or.b32", 0x100, 100 | 0x100),
        ("xor.b32", 0x101, 100),
        ("inc.u32", 110, (100 + 32) - 111),
        ("dec.u32", 200, 100 - 32),
    ],
)
@pytest.mark.parametrize("space", ["global", "shared"])
def test_integer_atomics(operation: str, operand: int, expected: int, space: str) -> None:
    address = "[%rd1]" if space == "global" else "[%r5]"
    body = "" if space == "global" else "  setp.eq.u32 %p1, %r1, 0;\n  @%p1 st.shared.u32 [%r5], 100;\n  bar.sync 0;\n"
    body += f"  atom.{space}.{operation} %r7, {address}, {operand};\n  st.global.u32 [%rd5], %r7;\n"
    if space == "shared":
        body += "  bar.sync 0;\n  ld.shared.u32 %r8, [%r5];\n  @%p1 st.global.u32 [%rd1], %r8;"
    data, old = words(1, 100), words(32)
    found = run(kernel(body), 1, 32, data, old)
    assert not found, [r["sentence"] for r in found]
    assert data.view(np.int32)[0] == expected
    if operation == "add.u32":  # every value in between was seen once
        assert sorted(old) == [100 + 5 * k for k in range(32)]


def test_compare_exchange_and_exchange() -> None:
    source = kernel("""  atom.global.cas.b32 %r7, [%rd1], %r1, 1000;
  st.global.u32 [%rd5], %r7;
  atom.global.exch.b64 %rd6, [%rd1+8], %rd4;
  cvt.u64.u32 %rd9, %r1;
  mov.b128 %rq1, {%rd9, %rd9};
  mov.b128 %rq2, {%rd9, %rd9};
  atom.global.cas.b128 %rq3, [%rd1+16], %rq1, %rq2;
  cvt.u16.u32 %h1, %r1;
  atom.global.cas.b16 %h2, [%rd1+4], %h1, 9;""", target="sm_90").replace(
        "  ld.param.u64 %rd1", "  .reg .b128 %rq<4>;\n  ld.param.u64 %rd1", 1
    )  # fmt: skip
    data = np.zeros(16, np.uint32)
    data = data[(-data.ctypes.data // 4) % 4 :][:8]
    data[:] = [3, 5, 0, 0, 0, 0, 0, 0]
    found = run(source, 1, 32, data, words(32), arch="90")
    assert not found, [r["sentence"] for r in found]
    assert data[0] == 1000
    assert data[1] == 9


def test_float_atomics_are_applied_in_seeded_order() -> None:
    source = kernel("  ld.global.f32 %f1, [%rd5];\n  red.global.add.f32 [%rd1], %f1;")
    values = (RNG.standard_normal(256) * 10.0 ** RNG.integers(-4, 5, 256)).astype(np.float32)
    sums = set()
    for seed in range(6):
        total = np.zeros(1, np.float32)
        assert not run(source, 2, 128, total, values, seed=seed)
        again = np.zeros(1, np.float32)
        run(source, 2, 128, again, values, seed=seed, threads=1)
        sums.add(total[0].tobytes())
        assert (
            abs(float(total[0]) - values.astype(np.float64).sum())
            <= np.abs(values).astype(np.float64).sum() * 256 * 2**-24
        )
    assert len(sums) > 1


def test_vector_atomics() -> None:
    source = kernel("""  mov.f32 %f1, 0f3F800000;
  mov.f32 %f2, 0f40000000;
  atom.global.add.v2.f32 {%f3, %f4}, [%rd1], {%f1, %f2};
  red.global.add.noftz.v2.f16x2 [%rd1+8], {%r11, %r12};""", target="sm_90").replace(
        "  mov.f32 %f1", "  mov.u32 %r11, 0x3c003c00;\n  mov.u32 %r12, 0x40003c00;\n  mov.f32 %f1", 1
    )  # fmt: skip
    data = np.zeros(8, np.float32)
    data = data[(-data.ctypes.data // 4) % 4 :][:4]
    found = run(source, 1, 32, data, arch="90")
    assert not found, [r["sentence"] for r in found]
    assert list(data[:2]) == [32, 64]
    assert list(data[2:].view(np.float16)) == [32, 32, 32, 64]


# ---- loads, stores, addresses


def test_extension_and_truncation() -> None:
    source = kernel("""  ld.global.s8 %r7, [%rd1];
  ld.global.u8 %r8, [%rd1];
  ld.global.s16 %r9, [%rd1];
  ld.global.s8 %h1, [%rd1];
  ld.global.s32 %rd6, [%rd1];
  ld.global.u32 %rd7, [%rd1];
  st.global.v4.u32 [%rd2], {%r7, %r8, %r9, %r9};
  st.global.u16 [%rd2+16], %h1;
  st.global.v2.u64 [%rd2+32], {%rd6, %rd7};
  st.global.u8 [%rd2+48], %r9;""")
    data = emulator.array(np.array([0x8081FFFE], np.uint32))
    out = emulator.array(np.zeros(64, np.uint8))
    found = run(source, 1, 1, data, out)
    assert not found, [r["sentence"] for r in found]
    raw = out.get()
    assert list(raw[:12].view(np.int32)) == [-2, 0xFE, -2]
    assert raw[16:18].view(np.int16)[0] == -2
    assert list(raw[32:48].view(np.int64)) == [np.int32(0x8081FFFE - 2**32), 0x8081FFFE]
    assert raw[48] == 0xFE
    assert raw[49] == 0


def test_hints_change_nothing() -> None:
    source = kernel("""  createpolicy.fractional.L2::evict_last.L2::evict_unchanged.b64 %rd6, 0f3F800000;
  prefetch.global.L2 [%rd4];
  prefetchu.L1 [%rd4];
  ld.global.cg.nc.L1::no_allocate.L2::cache_hint.L2::256B.u32 %r7, [%rd4], %rd6;
  st.global.L1::evict_first.L2::cache_hint.u32 [%rd5], %r7, %rd6;""")
    data, out = np.arange(32, dtype=np.uint32), words(32)
    found = run(source, 1, 32, data, out)
    assert not found, [r["sentence"] for r in found]
    np.testing.assert_array_equal(out, data)


def test_generic_addresses() -> None:
    source = kernel("""  cvta.global.u64 %rd6, %rd4;
  cvt.u64.u32 %rd7, %r6;
  cvta.shared.u64 %rd7, %rd7;
  setp.lt.u32 %p1, %r4, 16;
  selp.b64 %rd8, %rd6, %rd7, %p1;
  st.u32 [%rd8], %r1;
  ld.u32 %r7, [%rd8];
  isspacep.shared %p2, %rd8;
  selp.u32 %r8, 1, 0, %p2;
  mad.lo.u32 %r7, %r8, 100, %r7;
  st.global.u32 [%rd5], %r7;""")
    out = words(32)
    found = run(source, 1, 32, words(32), out)
    assert not found, [r["sentence"] for r in found]
    assert list(out) == [*range(16), *range(116, 132)]


@pytest.mark.parametrize(
    "statement",
    [
        "ld.global.b32.foo %r7, [%rd1]",
        "ld.shared::cluster.u32 %r7, [%r5]",
        "st.release.global.u32 [%rd1], 1",
        "ld.shared.v8.u32 {%r11, %r12, %r13, %r14, %r15, %r16, %r17, %r18}, [%r5]",
        "atom.global.inc.s32 %r7, [%rd1], 1",
        "atom.shared.add.v2.f32 {%f1, %f2}, [%r5], {%f1, %f2}",
        "red.acquire.gpu.global.add.u32 [%rd1], 1",
        "cp.async.cg.shared.global [%r5], [%rd1], 8",
        "cp.async.mbarrier.arrive.b64 [%r5]",
        "cp.async.bulk.commit_group",
        "fence.proxy.tensormap::generic.release.gpu",
        "mapa.shared::cluster.u32 %r7, %r5, 0",
        "ldmatrix.sync.aligned.m8n16.x1.trans.shared.b8x16.b4x16_p64 {%r7}, [%r5]",
    ],
)
def test_what_is_not_modelled_is_refused(statement: str) -> None:
    source = kernel(f"  {statement};", target="sm_120a")
    line = next(n for n, text in enumerate(source.splitlines(), 1) if statement in text)
    with emulator.settings(arch="120"), pytest.raises(emulator.EmulatorError, match=f"line {line}"):
        emulator.Module(source).launch("k", 1, 32, np.uint64(0), np.uint64(0))
    emulator.clear()


# ---- large and parallel


def test_offsets_beyond_32_bits() -> None:
    big = emulator.empty(3 * 2**31, np.uint32)  # 24 GiB, of which two pages are touched
    source = kernel("""  mov.u64 %rd6, 0x17ffffff0;
  shl.b64 %rd6, %rd6, 2;
  add.u64 %rd6, %rd6, %rd4;
  st.global.u32 [%rd6], %r1;
  ld.global.u32 %r7, [%rd6];
  st.global.u32 [%rd5], %r7;""")
    out = words(16)
    found = run(source, 1, 16, big, out)
    assert not found, [r["sentence"] for r in found]
    assert list(out) == list(range(16))
    assert "0 bytes behind the end" in only(run(source, 1, 17, big, words(17)), "out_of_bounds")["message"]


def test_one_worker_and_two_agree() -> None:
    source = kernel("""  ld.global.u32 %r7, [%rd4];
  st.shared.u32 [%r6], %r7;
  bar.sync 0;
  xor.b32 %r8, %r6, 128;
  ld.shared.u32 %r9, [%r8];
  red.global.add.u32 [%rd2], %r9;
  atom.global.add.u32 %r11, [%rd2+4], 1;
  st.global.u32 [%rd4], %r9;""")
    results = []
    for workers in (1, 2):
        data, sums = np.arange(64 * 128, dtype=np.uint32), words(2)
        found = run(source, 64, 128, data, sums, threads=workers)
        assert not found, [r["sentence"] for r in found]
        results.append((data.tobytes(), sums.tobytes()))
    assert results[0] == results[1]
    assert np.frombuffer(results[0][1], np.uint32)[1] == 64 * 128
