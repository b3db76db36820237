"""How threads of a warp part and meet again, and the barriers of blocks and warps."""

import numpy as np
import pytest
from emu.engine_kernel import kernel, line_of, run, words

# ---- divergence

NESTED = kernel("""
  and.b32 %r5, %r1, 1;
  setp.eq.u32 %p1, %r5, 0;
  mov.u32 %r6, 100;
  @%p1 bra EVEN;
  and.b32 %r5, %r1, 2;
  setp.eq.u32 %p2, %r5, 0;
  @%p2 bra ONE;
  add.u32 %r6, %r6, 3;
  bra JOIN_ODD;
ONE:
  add.u32 %r6, %r6, 1;
JOIN_ODD:
  mul.lo.u32 %r6, %r6, 2;
  bra JOIN;
EVEN:
  sub.u32 %r6, %r6, %r1;
JOIN:
  activemask.b32 %r7;
  setp.ne.u32 %p3, %r7, -1;
  @%p3 mov.u32 %r6, 0;
  st.global.u32 [%rd2], %r6;
  ret;
""")


def test_nested_branches_meet_again():
    out = words(64)
    assert run(NESTED, 1, 64, out) == []
    t = np.arange(64)
    odd = np.where(t & 2, 103, 101) * 2
    np.testing.assert_array_equal(out, np.where(t % 2 == 0, 100 - t, odd).astype(np.uint32))


TRIPS = kernel("""
  mov.u32 %r5, 0;
  mov.u32 %r6, 0;
LOOP:
  setp.ge.u32 %p1, %r5, %r1;
  @%p1 bra DONE;
  add.u32 %r5, %r5, 1;
  add.u32 %r6, %r6, %r5;
  bra LOOP;
DONE:
  activemask.b32 %r7;
  setp.ne.u32 %p3, %r7, -1;
  @%p3 mov.u32 %r6, 0xffffffff;
  st.global.u32 [%rd2], %r6;
  ret;
""")


def test_loops_of_different_length_end_together():
    out = words(96)
    assert run(TRIPS, 1, 96, out) == []
    t = np.arange(96)
    np.testing.assert_array_equal(out, t * (t + 1) // 2)


EARLY = kernel("""
  and.b32 %r5, %r1, 3;
  setp.eq.u32 %p1, %r5, 1;
  @%p1 exit;
  vote.sync.ballot.b32 %r6, 1, 0xffffffff;
  st.global.u32 [%rd2], %r6;
  ret;
""").replace("vote.sync.ballot.b32 %r6, 1,", "setp.eq.u32 %p2, %r1, %r1;\n  vote.sync.ballot.b32 %r6, %p2,")


def test_exited_lanes_are_not_waited_for():
    out = words(32, 7)
    assert run(EARLY, 1, 32, out) == []
    np.testing.assert_array_equal(out, np.where(np.arange(32) % 4 == 1, 7, 0xDDDDDDDD).astype(np.uint32))


SWITCH = kernel("""
  and.b32 %r5, %r1, 3;
  ts: .branchtargets A, B, C, A;
  brx.idx %r5, ts;
A:
  mov.u32 %r6, 10;
  bra END;
B:
  mov.u32 %r6, 20;
  bra END;
C:
  mov.u32 %r6, 30;
END:
  st.global.u32 [%rd2], %r6;
  ret;
""")


def test_switch():
    out = words(40)
    assert run(SWITCH, 1, 40, out) == []
    np.testing.assert_array_equal(out, np.array([10, 20, 30, 10])[np.arange(40) % 4])


def test_index_beyond_the_switch_is_reported():
    source = SWITCH.replace("and.b32 %r5, %r1, 3", "mov.u32 %r5, %r1")
    (report,) = run(source, 1, 5, words(5))
    assert report["finding"] == "bad_argument"
    assert report["line"] == line_of(source, "brx.idx")
    assert report["thread"] == [4, 0, 0]


# ---- barriers of a block

REVERSE = kernel("""
  .shared .align 4 .b8 buffer[1024];
  mov.u32 %r5, buffer;
  shl.b32 %r6, %r1, 2;
  add.u32 %r7, %r5, %r6;
  st.shared.u32 [%r7], %r3;
  bar.sync 0;
  sub.u32 %r8, %r4, %r1;
  sub.u32 %r8, %r8, 1;
  shl.b32 %r8, %r8, 2;
  add.u32 %r8, %r5, %r8;
  ld.shared.u32 %r9, [%r8];
  st.global.u32 [%rd2], %r9;
  ret;
""")


@pytest.mark.parametrize(
    "barrier", ["bar.sync 0", "barrier.sync 3", "barrier.cta.sync.aligned 15", "bar.cta.sync 1, COUNT"]
)
@pytest.mark.parametrize("threads", [256, 72])
def test_block_barrier(barrier, threads):
    out = words(3 * threads)
    # an aligned barrier counts the threads of a partial warp as 32
    barrier = barrier.replace("COUNT", str(-(-threads // 32) * 32))
    assert run(REVERSE.replace("bar.sync 0", barrier), 3, threads, out) == []
    np.testing.assert_array_equal(out.reshape(3, -1), np.arange(3 * threads).reshape(3, -1)[:, ::-1])


@pytest.mark.parametrize(("op", "value"), [("popc", 22), ("and", 0), ("or", 1)])
def test_barrier_reduction(op, value):
    body = """
      rem.u32 %r5, %r1, 3;
      setp.eq.u32 %p1, %r5, 0;
    """
    if op == "popc":
        body += "bar.red.popc.u32 %r6, 1, 64, %p1;\n"
    else:
        body += f"bar.red.{op}.pred %p2, 1, %p1;\n selp.u32 %r6, 1, 0, %p2;\n"
    out = words(64)
    assert run(kernel(body + "st.global.u32 [%rd2], %r6;\n ret;"), 1, 64, out) == []
    np.testing.assert_array_equal(out, value)


# Warp 0 fills, warp 1 drains: barrier 1 says full, barrier 2 says empty.
PIPE = kernel("""
  .shared .align 4 .b8 buffer[128];
  and.b32 %r5, %r1, 31;
  shl.b32 %r6, %r5, 2;
  mov.u32 %r7, buffer;
  add.u32 %r7, %r7, %r6;
  mov.u32 %r8, 0;
  mov.u32 %r9, 0;
  setp.ge.u32 %p1, %r1, 32;
  @%p1 bra DRAIN;
FILL:
  bar.sync 2, 64;
  add.u32 %r10, %r8, %r5;
  st.shared.u32 [%r7], %r10;
  bar.arrive 1, 64;
  add.u32 %r8, %r8, 1;
  setp.lt.u32 %p2, %r8, 10;
  @%p2 bra FILL;
  bra END;
DRAIN:
  bar.arrive 2, 64;
NEXT:
  bar.sync 1, 64;
  ld.shared.u32 %r10, [%r7];
  add.u32 %r9, %r9, %r10;
  add.u32 %r8, %r8, 1;
  setp.ge.u32 %p2, %r8, 10;
  @%p2 bra END;
  bar.arrive 2, 64;
  bra NEXT;
END:
  st.global.u32 [%rd2], %r9;
  ret;
""")


def test_named_barriers_hand_over():
    out = words(64)
    assert run(PIPE, 1, 64, out) == []
    np.testing.assert_array_equal(out[32:], 45 + 10 * np.arange(32))


ARRIVE = kernel("""
  .shared .align 4 .b8 buffer[128];
  and.b32 %r5, %r1, 31;
  shl.b32 %r6, %r5, 2;
  mov.u32 %r7, buffer;
  add.u32 %r7, %r7, %r6;
  setp.ge.u32 %p1, %r1, 32;
  @%p1 bra DRAIN;
  st.shared.u32 [%r7], %r1; // early
  bar.arrive 1, 64;
  st.shared.u32 [%r7], %r1; // late
  ret;
DRAIN:
  bar.sync 1, 64;
  ld.shared.u32 %r10, [%r7];
  st.global.u32 [%rd2], %r10;
  ret;
""")


@pytest.mark.parametrize("seed", range(4))
def test_arriving_orders_only_what_came_before(seed):
    """The threads that wait see what came before the arrival; a store behind it races with them, whoever runs first."""
    repaired = "\n".join(line for line in ARRIVE.splitlines() if "// late" not in line)
    assert run(repaired, 1, 64, words(64), seed=seed) == []
    (report,) = run(ARRIVE, 1, 64, words(64), seed=seed)
    assert report["finding"] == "race"
    assert {report["line"], report["other"]["line"]} == {line_of(ARRIVE, "// late"), line_of(ARRIVE, "ld.shared")}


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_host_threads_do_not_change_results(workers):
    out = words(40 * 96)
    assert run(REVERSE, 40, 96, out, threads=workers) == []
    np.testing.assert_array_equal(out.reshape(40, -1), np.arange(40 * 96).reshape(40, -1)[:, ::-1])


# ---- barriers of a warp

MEET = kernel("""
  .shared .align 4 .b8 buffer[128];
  mov.u32 %r5, buffer;
  shl.b32 %r6, %r1, 2;
  add.u32 %r6, %r5, %r6;
  setp.lt.u32 %p1, %r1, 16;
  st.shared.u32 [%r6], %r1;
  @%p1 bra LOW;
  bar.warp.sync 0xffffffff;
  bra JOIN;
LOW:
  mov.u32 %r9, 1;
  bar.warp.sync 0xffffffff;
JOIN:
  xor.b32 %r7, %r1, 31;
  shl.b32 %r7, %r7, 2;
  add.u32 %r7, %r5, %r7;
  ld.shared.u32 %r8, [%r7];
  st.global.u32 [%rd2], %r8;
  ret;
""")


def test_warp_barrier_is_met_from_different_places():
    out = words(32)
    assert run(MEET, 1, 32, out) == []
    np.testing.assert_array_equal(out, 31 - np.arange(32))


HALVES = kernel("""
  setp.lt.u32 %p1, %r1, 16;
  selp.b32 %r5, 0x0000ffff, 0xffff0000, %p1;
  shfl.sync.bfly.b32 %r6, %r1, 3, 31, %r5;
  st.global.u32 [%rd2], %r6;
  ret;
""")


def test_two_masks_at_one_instruction():
    out = words(32)
    assert run(HALVES, 1, 32, out) == []
    np.testing.assert_array_equal(out, np.arange(32) ^ 3)
