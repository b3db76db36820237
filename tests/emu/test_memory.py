"""Bounds, alignment, unwritten memory, atomics, and loads and stores of every form."""

from __future__ import annotations

import numpy as np
import pytest
from emu import emulator
from emu.memory_kernel import kernel, only, run, text_of, words

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
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(256) * 10.0 ** rng.integers(-4, 5, 256)).astype(np.float32)
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
