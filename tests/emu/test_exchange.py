"""Who never comes to a barrier or a shuffle, and what lanes exchange; how unwritten values are carried."""

import numpy as np
import pytest
from emu import emulator
from emu.engine_kernel import kernel, line_of, run, words

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
