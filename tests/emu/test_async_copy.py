"""cp.async from issue to wait, and matrices on their way between shared memory and registers."""

from __future__ import annotations

import numpy as np
import pytest
from emu import emulator
from emu.memory_kernel import kernel, only, run, text_of, words

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
