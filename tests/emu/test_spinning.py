"""Threads that wait by spinning have their turn; the order of blocks and the host threads that run them."""

import numpy as np
import pytest
from emu import emulator
from emu.engine_kernel import kernel, line_of, run, words

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


WITH_REDUCTION = "bar.red.or.pred %p4, 0, %p4;"


@pytest.mark.parametrize(
    "inside", ["", "bar.warp.sync -1;", "nanosleep.u32 20;", TWO_WAYS, "bar.sync 0;", WITH_REDUCTION]
)
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


# Two warps pass a barrier of their own each time they look; the third has waited elsewhere all the while.
STANDING = kernel("""
  shr.u32 %r7, %r1, 5;
  setp.eq.u32 %p1, %r7, 2;
  @%p1 bra STAND;
WAIT:
  barrier.sync 1, 64;
  ld.relaxed.gpu.global.u32 %r5, [%rd1];
  setp.eq.u32 %p2, %r5, 0;
  @%p2 bra WAIT;
STAND:
  bar.sync 0;
  ret;
""")


def test_a_warp_that_stands_meanwhile_does_not_hide_a_spin():
    (report,) = run(STANDING, 3, 96, words(96), spin_limit=20000)
    assert report["finding"] == "endless_spin"
    assert line_of(STANDING, "WAIT:") <= report["line"] <= line_of(STANDING, "bra WAIT")


COUNT = """
{label}:
  add.u32 %r5, %r5, 1;
  {barrier}
  setp.lt.u32 %p1, %r5, 3000;
  @%p1 bra {label};
"""


@pytest.mark.parametrize("barrier", ["bar.sync 0;", "bar.red.popc.u32 %r6, 0, %p2;"])
def test_a_long_computation_with_barriers_is_no_spin(barrier):
    out = words(4 * 64)
    loop = COUNT.format(label="LOOP", barrier=barrier)
    source = kernel(f"  mov.u32 %r5, 0;\n  setp.eq.u32 %p2, %r1, 0;{loop}  st.global.u32 [%rd2], %r5;\n  ret;\n")
    assert run(source, 4, 64, out, spin_limit=500) == []
    np.testing.assert_array_equal(out, 3000)


# Each of two warps waits while the other computes: at a barrier first, for a flag then.
IN_TURN = kernel(f"""
  mov.u32 %r5, 0;
  setp.ge.u32 %p3, %r1, 32;
  @%p3 bra SECOND;
{COUNT.format(label="FIRST", barrier="")}
  bar.sync 0;
WAIT:
  ld.acquire.gpu.global.u32 %r6, [%rd1+256];
  setp.eq.u32 %p2, %r6, 0;
  @%p2 bra WAIT;
  bra END;
SECOND:
  bar.sync 0;
{COUNT.format(label="LATER", barrier="")}
  st.release.gpu.global.u32 [%rd1+256], %r5;
END:
  st.global.u32 [%rd2], %r5;
  ret;
""")


@pytest.mark.parametrize("seed", range(4))
def test_warps_that_compute_in_turn_are_no_spin(seed):
    out = words(65)
    assert run(IN_TURN, 1, 64, out, spin_limit=500, seed=seed) == []
    np.testing.assert_array_equal(out, 3000)


COUNTED = """
  mov.u32 %r6, 0;
WAIT:
  add.u32 %r6, %r6, 1;
  {inside}
  ld.relaxed.gpu.global.u32 %r5, [%rd1+4096];
  setp.eq.u32 %p2, %r5, 0;
  {rest}
  @%p2 bra WAIT;
  st.global.u32 [%rd2], %r6;
  ret;
"""


@pytest.mark.parametrize("inside", ["", "bar.sync 0;", WITH_REDUCTION, "shfl.sync.idx.b32 %r6, %r6, 0, 31, -1;"])
def test_a_spin_that_counts_its_turns_is_found_within_the_limit(inside):
    source, limit = kernel(COUNTED.format(inside=inside, rest="")), 20_000
    emulator.clear()
    (report,) = run(source, 1, 96, words(1100), spin_limit=limit)
    assert report["finding"] == "endless_spin"
    assert line_of(source, "WAIT:") <= report["line"] <= line_of(source, "bra WAIT")
    steps = sum(of["warps"] for launch in emulator.counts() for of in launch["classes"].values())
    assert limit < steps < 3 * limit  # by its length it would be 64 times the limit


# The count of turns decides: by itself, through a shuffle, and as an address that comes to a word that is set.
DECIDING = {
    "timeout": "setp.lt.and.u32 %p2, %r6, 3000, %p2;",
    "shuffled": "shfl.sync.idx.b32 %r7, %r6, 0, 31, -1; setp.lt.and.u32 %p2, %r7, 3000, %p2;",
    "selected": "selp.u32 %r7, 1, 0, %p2; setp.ge.u32 %p3, %r6, 3000; @%p3 mov.u32 %r7, 0; setp.ne.u32 %p2, %r7, 0;",
}


@pytest.mark.parametrize("inside", ["", "bar.sync 0;"])
@pytest.mark.parametrize("rest", DECIDING)
def test_a_count_that_decides_is_no_spin(rest, inside):
    out = words(1100)
    assert run(kernel(COUNTED.format(inside=inside, rest=DECIDING[rest])), 1, 96, out, spin_limit=2_000) == []
    assert (out[:96] >= 3000).all()


def test_a_clock_that_decides_is_no_spin():
    until = "mov.u32 %r7, %clock; setp.lt.and.u32 %p2, %r7, 20000, %p2; mov.u32 %r7, 0;"
    assert run(kernel(COUNTED.format(inside="", rest=until)), 1, 96, words(1100), spin_limit=2_000) == []


def test_a_walk_over_memory_is_no_spin():
    source = kernel("""
  mul.wide.u32 %rd4, %r1, 0;
WALK:
  add.u64 %rd4, %rd4, 4;
  add.u64 %rd5, %rd1, %rd4;
  ld.relaxed.gpu.global.u32 %r5, [%rd5];
  setp.eq.u32 %p2, %r5, 0;
  bar.sync 0;
  @%p2 bra WALK;
  st.global.u32 [%rd2], %r5;
  ret;
""")
    out = words(4096)
    out[3000] = 7
    assert run(source, 1, 64, out, spin_limit=500) == []


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
