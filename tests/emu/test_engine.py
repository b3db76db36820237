"""How threads run: divergence, barriers, waiting, calls, and what is said when they cannot go on."""

import numpy as np
import pytest
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


# ---- waiting by spinning

# The lanes that spin stand at the lower pc; the lane that lets them go must have its turn all the same.
SPIN_WARP = kernel("""
  setp.eq.u32 %p1, %r1, 7;
  @%p1 bra SET;
WAIT:
  ld.relaxed.gpu.global.u32 %r5, [%rd1+256];
  setp.eq.u32 %p2, %r5, 0;
  @%p2 bra WAIT;
  bra JOIN;
SET:
  st.relaxed.gpu.global.u32 [%rd1+256], 5;
  mov.u32 %r5, 5;
JOIN:
  st.global.u32 [%rd2], %r5;
  ret;
""")


def test_lanes_of_a_warp_may_wait_for_another():
    out = words(65)
    assert run(SPIN_WARP, 1, 64, out) == []
    np.testing.assert_array_equal(out, 5)


# A lock of each lane of each warp of each block.
LOCK = kernel("""
  mov.u32 %r5, 0;
TRY:
  atom.acquire.gpu.global.cas.b32 %r6, [%rd1], 0, 1;
  setp.ne.u32 %p1, %r6, 0;
  @%p1 bra TRY;
  ld.global.u32 %r7, [%rd1+4];
  add.u32 %r7, %r7, 1;
  st.global.u32 [%rd1+4], %r7;
  st.release.gpu.global.u32 [%rd1], 0;
  ret;
""")


def test_spin_lock():
    out = words(2)
    assert run(LOCK, 3, 64, out) == []
    np.testing.assert_array_equal(out, [0, 192])


# Every block waits for the one with the next lower number, whichever starts first.
CHAIN = kernel("""
  setp.ne.u32 %p1, %r1, 0;
  @%p1 exit;
  mul.wide.u32 %rd4, %r2, 4;
  add.u64 %rd5, %rd1, %rd4;
  mov.u32 %r6, 1;
  setp.eq.u32 %p2, %r2, 0;
  @%p2 bra TELL;
WAIT:
  ld.acquire.gpu.global.u32 %r6, [%rd5+-4];
  setp.eq.u32 %p3, %r6, 0;
  @%p3 nanosleep.u32 100;
  @%p3 bra WAIT;
  add.u32 %r6, %r6, %r2;
TELL:
  st.release.gpu.global.u32 [%rd5], %r6;
  ret;
""")


@pytest.mark.parametrize("seed", range(4))
def test_blocks_of_the_window_wait_for_each_other(seed):
    out = words(16)
    assert run(CHAIN, 16, 64, out, seed=seed) == []
    np.testing.assert_array_equal(out, 1 + np.cumsum(np.arange(16)))


def test_a_spin_that_never_ends():
    source = CHAIN.replace("st.release.gpu.global.u32 [%rd5], %r6", "mov.u32 %r6, 0")
    (report,) = run(source, 2, 32, words(16), spin_limit=20000)
    assert report["finding"] == "endless_spin"
    assert report["block"] == [1, 0, 0]
    assert line_of(source, "WAIT:") <= report["line"] <= line_of(source, "bra WAIT")


def test_a_long_computation_is_no_spin():
    source = kernel("""
  mov.u32 %r5, 0;
  mov.u32 %r6, 1;
LOOP:
  mad.lo.u32 %r6, %r6, 5, 1;
  add.u32 %r5, %r5, 1;
  setp.lt.u32 %p1, %r5, 2000;
  @%p1 bra LOOP;
  st.global.u32 [%rd2], %r6;
  ret;
""")
    out = words(8 * 64)
    assert run(source, 8, 64, out, spin_limit=2000) == []
    value = 1
    for _ in range(2000):
        value = (value * 5 + 1) % 2**32
    np.testing.assert_array_equal(out, value)


TWO_WAYS = "setp.lt.u32 %p4, %r1, 5;"


@pytest.mark.parametrize("inside", ["", "bar.warp.sync -1;", "nanosleep.u32 20;", TWO_WAYS])
def test_spins_of_every_shape_end(inside):
    """Every warp waits for a word that nobody writes; the lanes of the last shape come back by two ways."""
    source = kernel(f"""
WAIT:
  {inside}
  ld.relaxed.gpu.global.u32 %r5, [%rd1];
  {"@%p4 bra AGAIN;" if inside is TWO_WAYS else ""}
  add.u32 %r6, %r5, %r1;
AGAIN:
  setp.eq.u32 %p2, %r5, 0;
  @%p2 bra WAIT;
  st.global.u32 [%rd2], %r6;
  ret;
""")
    (report,) = run(source, 6, 96, words(6 * 96), spin_limit=50000)
    assert report["finding"] == "endless_spin"
    assert line_of(source, "WAIT:") <= report["line"] <= line_of(source, "bra WAIT")


def test_a_spin_that_counts_its_turns_ends():
    source = kernel("""
  mov.u32 %r6, 0;
WAIT:
  add.u32 %r6, %r6, 1;
  ld.relaxed.gpu.global.u32 %r5, [%rd1];
  setp.eq.u32 %p2, %r5, 0;
  @%p2 bra WAIT;
  ret;
""")
    (report,) = run(source, 1, 32, words(32), spin_limit=1000)
    assert report["finding"] == "endless_spin"


# ---- seeds and host threads

TICKET = kernel("""
  setp.ne.u32 %p1, %r1, 0;
  @%p1 exit;
  mul.wide.u32 %rd4, %r2, 4;
  add.u64 %rd5, %rd1, %rd4;
  atom.relaxed.gpu.global.add.u32 %r6, [%rd1+1024], 1;
  st.global.u32 [%rd5], %r6;
  ret;
""")


def tickets(**settings):
    out = words(257)
    assert run(TICKET, 256, 32, out, threads=1, **settings) == []
    assert out[256] == 256
    np.testing.assert_array_equal(np.sort(out[:256]), np.arange(256))
    return out[:256]


def test_the_order_of_blocks():
    ascending = tickets(order="ascending")
    # The window is filled in order, whose turn it is within it is drawn: no block is a whole window ahead.
    assert np.abs(ascending.astype(int) - np.arange(256)).max() <= 128
    orders = {tuple(tickets(order="random", seed=s)) for s in range(3)}
    assert len(orders) == 3
    assert tuple(ascending) not in orders


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_host_threads_do_not_change_results(workers):
    out = words(40 * 96)
    assert run(REVERSE, 40, 96, out, threads=workers) == []
    np.testing.assert_array_equal(out.reshape(40, -1), np.arange(40 * 96).reshape(40, -1)[:, ::-1])


# ---- who never comes


def test_barrier_in_one_branch_of_a_warp():
    source = kernel("""
  setp.lt.u32 %p1, %r1, 16;
  @%p1 bra LOW;
  bar.sync 0; // high
  bra JOIN;
LOW:
  bar.sync 0; // low
JOIN:
  ret;
""")
    (report,) = run(source, 1, 32, words(32))
    assert report["finding"] == "divergent_barrier"
    assert {report["line"], report["other"]["line"]} == {line_of(source, "// high"), line_of(source, "// low")}


def test_barrier_that_other_threads_passed_by():
    source = kernel("""
  setp.ge.u32 %p1, %r1, 48;
  @%p1 bra END;
  bar.sync 0;
END:
  ret;
""")
    (report,) = run(source, 1, 64, words(64))
    assert report["finding"] == "divergent_barrier"
    assert report["line"] == line_of(source, "bar.sync")
    assert report["other"]["line"] == line_of(source, "ret;")


def test_barriers_that_wait_for_each_other():
    source = kernel("""
  setp.ge.u32 %p1, %r1, 32;
  @%p1 bra HIGH;
  bar.sync 1, 64;
  bar.sync 2, 64; // never
  ret;
HIGH:
  bar.sync 2, 64;
  bar.sync 1, 64; // never
  ret;
""")
    (report,) = run(source, 1, 64, words(64))
    assert report["finding"] == "deadlock"
    assert {report["line"], report["other"]["line"]} == {
        line_of(source, "bar.sync 1, 64;"),
        line_of(source, "bar.sync 2, 64;", 1),
    }


def test_thread_count_that_is_never_reached():
    source = kernel("  bar.sync 1, 96;\n  ret;\n")
    (report,) = run(source, 1, 64, words(64))
    assert report["finding"] == "deadlock"
    assert report["line"] == line_of(source, "bar.sync")


def test_shuffle_in_one_branch():
    source = kernel("""
  setp.lt.u32 %p1, %r1, 8;
  @%p1 bra LOW;
  shfl.sync.idx.b32 %r6, %r1, 0, 31, 0xffffffff; // high
  bra JOIN;
LOW:
  vote.sync.any.pred %p2, %p1, 0xffffffff; // low
JOIN:
  ret;
""")
    (report,) = run(source, 1, 32, words(32))
    assert report["finding"] == "divergent_barrier"
    assert {report["line"], report["other"]["line"]} == {line_of(source, "// high"), line_of(source, "// low")}


@pytest.mark.parametrize(
    "statement", ["bar.sync 16;", "bar.sync 1, 40;", "bar.arrive 1, 0;", "bar.warp.sync 0xfffffffe;"]
)
def test_bad_operands_of_barriers(statement):
    source = kernel(f"  {statement}\n  ret;\n")
    report = run(source, 1, 32, words(32))[0]
    assert report["finding"] == "bad_argument"
    assert report["line"] == line_of(source, statement)


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("shfl.idx.b32 %r6, %r1, 0, 31;", "must be .sync"),
        ("vote.all.pred %p2, %p1;", "must be .sync"),
        ("shfl.sync.idx.b64 %rd6, %rd1, 0, 31, -1;", "must be .b32"),
        ("match.any.sync.b32 %r6|%p2, %r1, -1;", "no predicate"),
        ("redux.sync.and.s32 %r6, %r1, -1;", "does not have this operation"),
        ("barrier.cluster.arrive;", "cluster"),
        ("bar.arrive 1;", "must have a thread count"),
        ("bar.red.popc.s32 %r6, 1, %p1;", "must be .u32"),
        ("bar.sync 0, 32, 5;", "at most one thread count"),
        ("pmevent 1;", "unknown instruction"),
        ("call.uni nothing, ();", "nothing"),
    ],
)
def test_what_is_refused(statement, why):
    source = kernel(f"  {statement}\n  ret;\n", outside=".extern .func nothing ();\n")
    with pytest.raises(emulator.EmulatorError, match=f"line {line_of(source, statement)}:.*{why}"):
        emulator.Module(source).launch("k", 1, 32, np.uint64(0))


# ---- exchange between lanes


def shfl_model(mode, value, b, c):
    lane = np.arange(32)
    clamp, segment = c & 31, c >> 8 & 31
    most = (lane & segment) | (clamp & ~segment & 31)
    if mode == "up":
        j = lane - b
        ok = j >= most
    elif mode == "down":
        j = lane + b
        ok = j <= most
    elif mode == "bfly":
        j = lane ^ b
        ok = j <= most
    else:
        j = (lane & segment) | (b & ~segment & 31)
        ok = j <= most
    return value[np.where(ok, j, lane)], ok


@pytest.mark.parametrize(("mode", "c"), [("up", 0), ("up", 0x1800), ("down", 31), ("down", 0x181F), ("bfly", 31),
                                     ("bfly", 0x1C1F), ("bfly", 15), ("idx", 31), ("idx", 0x101F)])  # fmt: skip
def test_shfl(mode, c):
    for b in (0, 1, 5, 16, 31):
        source = kernel(f"""
  mul.lo.u32 %r5, %r1, 2654435761;
  shfl.sync.{mode}.b32 %r6|%p1, %r5, {b}, {c}, 0xffffffff;
  and.b32 %r6, %r6, 0x7fffffff;
  selp.b32 %r7, 0x80000000, 0, %p1;
  or.b32 %r6, %r6, %r7;
  st.global.u32 [%rd2], %r6;
  ret;
""")
        out = words(32)
        assert run(source, 1, 32, out) == []
        value = (np.arange(32, dtype=np.uint64) * 2654435761 % 2**32).astype(np.uint32)
        expected, ok = shfl_model(mode, value, b, c)
        np.testing.assert_array_equal(out, (expected & 0x7FFFFFFF) | np.where(ok, np.uint32(1 << 31), np.uint32(0)))


def test_shfl_from_a_lane_that_takes_no_part():
    source = kernel("""
  setp.ge.u32 %p1, %r1, 16;
  @%p1 exit;
  shfl.sync.down.b32 %r6, %r1, 8, 31, 0x0000ffff;
  st.global.u32 [%rd2], %r6;
  ret;
""")
    (report,) = run(source, 1, 32, words(32))
    assert report["finding"] == "bad_argument"
    assert report["thread"] == [8, 0, 0]
    assert report["count"] == 8
    assert report["line"] == line_of(source, "shfl.sync")


EXCHANGE = {
    "vote.sync.all.pred %p2, %p1, 0x0000ffff": ("p", lambda v: np.full(16, (v % 3 == 0).all())),
    "vote.sync.any.pred %p2, %p1, 0x0000ffff": ("p", lambda v: np.full(16, (v % 3 == 0).any())),
    "vote.sync.uni.pred %p2, %p1, 0x0000ffff": ("p", lambda v: np.full(16, len(set(v % 3 == 0)) == 1)),
    "vote.sync.ballot.b32 %r6, !%p1, 0x0000ffff": ("r", lambda v: np.full(16, ((v % 3 != 0) << np.arange(16)).sum())),
    "match.any.sync.b32 %r6, %r7, 0x0000ffff": ("r", lambda v: 0xF << (v // 4 * 4)),
    "match.all.sync.b32 %r6|%p2, %r7, 0x0000ffff": ("r", lambda v: np.zeros(16)),
    "match.all.sync.b32 %r6, %r4, 0x0000ffff": ("r", lambda v: np.full(16, 0xFFFF)),
    "redux.sync.add.s32 %r6, %r8, 0x0000ffff": ("r", lambda v: np.full(16, (v - 5).sum())),
    "redux.sync.min.s32 %r6, %r8, 0x0000ffff": ("r", lambda v: np.full(16, -5)),
    "redux.sync.min.u32 %r6, %r8, 0x0000ffff": ("r", lambda v: np.full(16, 0)),
    "redux.sync.max.u32 %r6, %r8, 0x0000ffff": ("r", lambda v: np.full(16, -1)),
    "redux.sync.and.b32 %r6, %r8, 0x0000ffff": ("r", lambda v: np.full(16, np.bitwise_and.reduce(v - 5))),
    "redux.sync.or.b32 %r6, %r1, 0x0000ffff": ("r", lambda v: np.full(16, 15)),
    "redux.sync.xor.b32 %r6, %r8, 0x0000ffff": ("r", lambda v: np.full(16, np.bitwise_xor.reduce(v - 5))),
    "elect.sync %r6|%p2, 0x0000ffff": ("r", lambda v: np.zeros(16)),
}  # fmt: skip


@pytest.mark.parametrize("statement", EXCHANGE)
def test_exchange(statement):
    kind, model = EXCHANGE[statement]
    target = "sm_90" if statement.startswith("elect") else "sm_80"
    source = kernel(
        f"""
  rem.u32 %r5, %r1, 3;
  setp.eq.u32 %p1, %r5, 0;
  shr.u32 %r7, %r1, 2;
  sub.s32 %r8, %r1, 5;
  setp.ge.u32 %p3, %r1, 16;
  @%p3 bra END;
  {statement};
  {"selp.u32 %r6, 1, 0, %p2;" if kind == "p" else ""}
  st.global.u32 [%rd2], %r6;
END:
  ret;
""",
        target=target,
    )
    out = words(32, 9)
    assert run(source, 1, 32, out, arch=target[3:]) == []
    expected = np.asarray(model(np.arange(16))).astype(np.int64) & 0xFFFFFFFF
    np.testing.assert_array_equal(out[:16], expected.astype(np.uint32))
    np.testing.assert_array_equal(out[16:], 9)


# ---- unwritten values on their way (uninitialized=use)

CARRY = """
  .shared .align 4 .b8 buffer[128];
  mov.u32 %r5, buffer;
  shl.b32 %r6, %r1, 2;
  add.u32 %r6, %r5, %r6;
  setp.ne.u32 %p1, %r1, 3;
  @%p1 st.shared.u32 [%r6], %r1;
  ld.shared.u32 %r7, [%r6];
  add.u32 %r7, %r7, 1;
"""


@pytest.mark.parametrize(
    ("use", "lane"),
    [
        ("st.global.u32 [%rd2], %r7;", 3),
        ("setp.eq.u32 %p2, %r7, 9;\n  @%p2 mov.u32 %r8, 1;", 3),
        ("setp.eq.u32 %p2, %r7, 9;\n  @%p2 bra END;", 3),
        ("shfl.sync.bfly.b32 %r8, %r7, 1, 31, -1;\n  st.global.u32 [%rd2], %r8;", 2),
        ("vote.sync.ballot.b32 %r8, %p1, -1;\n  add.u32 %r8, %r8, %r7;\n  st.global.u32 [%rd2], %r8;", 3),
    ],
)
def test_use_of_an_unwritten_value(use, lane):
    source = kernel(CARRY + f"  {use}\nEND:\n  ret;\n")
    (report,) = run(source, 1, 32, words(32), uninitialized="use")
    assert report["finding"] == "uninitialized"
    assert report["thread"] == [lane, 0, 0]
    assert report["line"] == line_of(source, use.splitlines()[-1].strip())


@pytest.mark.parametrize(
    "rest",
    [
        "@%p1 st.global.u32 [%rd2], %r7;",
        "mov.u32 %r7, 5;\n  st.global.u32 [%rd2], %r7;",
        "shfl.sync.down.b32 %r8, %r1, 1, 31, -1;\n  st.global.u32 [%rd2], %r8;",
    ],
)
def test_an_unwritten_value_that_nobody_uses(rest):
    assert run(kernel(CARRY + f"  {rest}\n  ret;\n"), 1, 32, words(32), uninitialized="use") == []


def test_shuffle_from_outside_is_carried_to_its_use():
    source = kernel("""
  setp.ge.u32 %p1, %r1, 16;
  @%p1 exit;
  shfl.sync.down.b32 %r6, %r1, 8, 31, 0x0000ffff;
  setp.lt.u32 %p2, %r1, 8;
  @%p2 st.global.u32 [%rd2], %r6;
  ret;
""")
    assert run(source, 1, 32, words(32), uninitialized="use") == []
    (report,) = run(source.replace("@%p2 st", "st"), 1, 32, words(32), uninitialized="use")
    assert report["finding"] == "uninitialized"
    assert report["count"] == 8


# ---- calls

CALLS = kernel(
    """
  mov.u32 %r5, 1000;
  and.b32 %r6, %r1, 1;
  setp.eq.u32 %p1, %r6, 0;
  @%p1 bra SKIP;
  {
    .param .b32 param0;
    st.param.b32 [param0], %r1;
    .param .b32 param1;
    st.param.b32 [param1], 3;
    .param .b32 retval0;
    call.uni (retval0), scale, (param0, param1);
    ld.param.b32 %r5, [retval0];
  }
SKIP:
  activemask.b32 %r7;
  setp.ne.u32 %p3, %r7, -1;
  @%p3 mov.u32 %r5, 0;
  st.global.u32 [%rd2], %r5;
  ret;
""",
    outside="""
.func (.param .b32 func_retval0) twice(.param .b32 twice_param_0)
{
  .reg .b32 %r<4>;
  ld.param.u32 %r1, [twice_param_0];
  add.u32 %r2, %r1, %r1;
  st.param.b32 [func_retval0], %r2;
  ret;
}
.func (.param .b32 func_retval0) scale(.param .b32 scale_param_0, .param .b32 scale_param_1)
{
  .reg .pred %p<3>;
  .reg .b32 %r<8>;
  ld.param.u32 %r1, [scale_param_0];
  ld.param.u32 %r2, [scale_param_1];
  setp.gt.u32 %p1, %r1, 15;
  @%p1 bra LARGE;
  mul.lo.u32 %r3, %r1, %r2;
  st.param.b32 [func_retval0], %r3;
  ret;
LARGE:
  {
    .param .b32 param0;
    st.param.b32 [param0], %r1;
    .param .b32 retval0;
    call.uni (retval0), twice, (param0);
    ld.param.b32 %r4, [retval0];
  }
  st.param.b32 [func_retval0], %r4;
  ret;
}
""",
)


def test_calls_of_some_lanes():
    out = words(32)
    assert run(CALLS, 1, 32, out) == []
    t = np.arange(32)
    np.testing.assert_array_equal(out, np.where(t % 2 == 0, 1000, np.where(t > 15, 2 * t, 3 * t)))


FORMAT = ", ".join(str(c) for c in b"t=%3d %.2f %lld %s%%\n\0")
PRINT = kernel(
    """
  .local .align 8 .b8 arguments[32];
  .reg .b64 %SP;
  .reg .f64 %fd<3>;
  mov.u64 %rd10, arguments;
  cvta.local.u64 %rd11, %rd10;
  setp.ne.u32 %p1, %r1, 5;
  @%p1 exit;
  st.local.u32 [%rd10], %r1;
  mov.f64 %fd1, 0d3FF8000000000000;
  st.local.f64 [%rd10+8], %fd1;
  st.local.u64 [%rd10+16], -7;
  mov.u64 %rd12, word;
  cvta.global.u64 %rd12, %rd12;
  st.local.u64 [%rd10+24], %rd12;
  mov.u64 %rd13, format;
  cvta.global.u64 %rd14, %rd13;
  {
    .param .b64 param0;
    st.param.b64 [param0], %rd14;
    .param .b64 param1;
    st.param.b64 [param1], %rd11;
    .param .b32 retval0;
    call.uni (retval0), vprintf, (param0, param1);
    ld.param.b32 %r6, [retval0];
  }
  st.global.u32 [%rd2], %r6;
  ret;
""",
    outside="""
.extern .func (.param .b32 func_retval0) vprintf(.param .b64 vprintf_param_0, .param .b64 vprintf_param_1);
.global .align 1 .b8 format[22] = {FORMAT};
.global .align 1 .b8 word[3] = {104, 105, 0};
""".replace("FORMAT", FORMAT),
)


def test_printf(capfd):
    out = words(32)
    assert run(PRINT, 1, 32, out) == []
    assert capfd.readouterr().out == "t=  5 1.50 -7 hi%\n"
    assert out[5] == 4


ASSERT = kernel(
    """
  setp.ne.u32 %p1, %r3, 70;
  @%p1 bra END;
  mov.u64 %rd10, message;
  cvta.global.u64 %rd11, %rd10;
  {
    .param .b64 param0;
    st.param.b64 [param0], %rd11;
    .param .b64 param1;
    st.param.b64 [param1], %rd11;
    .param .b32 param2;
    st.param.b32 [param2], 42;
    .param .b64 param3;
    st.param.b64 [param3], %rd11;
    .param .b64 param4;
    st.param.b64 [param4], 1;
    call.uni __assertfail, (param0, param1, param2, param3, param4);
  }
END:
  ret;
""",
    outside="""
.extern .func __assertfail(.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e) .noreturn;
.global .align 1 .b8 message[4] = {120, 61, 49, 0};
""",
)


def test_assert():
    (report,) = run(ASSERT, 2, 64, words(128))
    assert report["finding"] == "trap"
    assert report["block"] == [1, 0, 0]
    assert report["thread"] == [6, 0, 0]
    assert "x=1:42" in report["message"]
    assert "`x=1`" in report["message"]
    assert report["line"] == line_of(ASSERT, "call.uni __assertfail")


def test_trap():
    source = kernel("  setp.eq.u32 %p1, %r1, 40;\n  @%p1 trap;\n  ret;\n")
    (report,) = run(source, 1, 64, words(64))
    assert report["finding"] == "trap"
    assert report["thread"] == [40, 0, 0]
    assert report["line"] == line_of(source, "trap;")
