"""The runtime that programs see: the device, variables, copies, errors, and which PTX of a fat binary runs."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
from emu import emulator
from emu.toolchain import ROOT, compile_cuda

FOLDER = Path(__file__).resolve().parent / "runtime"
ARCHS = ("80", "86", "89", "90", "120", "121")
ABI = ROOT / "csrc" / "emu" / "rt" / "abi.h"


def program(name: str, **options: object) -> ctypes.CDLL:
    return emulator.load(compile_cuda(FOLDER / f"{name}.cu", **options))  # type: ignore[arg-type]


def calls(archs: tuple[str, ...] = ("80",)) -> ctypes.CDLL:
    library = program("calls", archs=archs)
    library.launch_bounded.argtypes = [ctypes.c_uint] * 4 + [ctypes.c_size_t]
    return library


@pytest.mark.parametrize("arch", ARCHS)
def test_properties_and_attributes_agree(arch: str) -> None:
    """That abi.cu compiles is the test of the structures' layout."""
    library = program("abi", include=(ROOT / "csrc",), depends=(ABI,))
    with emulator.settings(arch=arch):
        assert library.properties() == 0
        assert library.attribute(75) * 10 + library.attribute(76) == int(arch)


def test_multiprocessors_are_those_that_are_set() -> None:
    """By both questions; those of the board again afterwards."""
    library = program("abi", include=(ROOT / "csrc",), depends=(ABI,))
    assert library.attribute(16) == 108
    with emulator.settings(multiprocessors=8):
        assert library.attribute(16) == 8
        assert library.properties() == 0
    assert library.attribute(16) == 108


# CUDA C++ Programming Guide, technical specifications: shared memory of an SM and of a block, threads, blocks
LIMITS = {
    "80": (164, 163, 2048, 32),
    "86": (100, 99, 1536, 16),
    "89": (100, 99, 1536, 24),
    "90": (228, 227, 2048, 32),
    "120": (100, 99, 1536, 24),
    "121": (100, 99, 1536, 24),
}


@pytest.mark.parametrize("arch", ARCHS)
def test_limits(arch: str) -> None:
    library = program("abi", include=(ROOT / "csrc",), depends=(ABI,))
    with emulator.settings(arch=arch):
        shared, block, threads, blocks = LIMITS[arch]
        assert [library.attribute(i) for i in (81, 97, 39, 106)] == [shared * 1024, block * 1024, threads, blocks]


@pytest.mark.parametrize("arch", ["80", "86", "89", "90", "120"])
def test_occupancy_is_the_toolkits(arch: str) -> None:
    library = program("occupancy", archs=("80", "86", "89", "90", "120"), machine_code=True)
    with emulator.settings(arch=arch):
        assert library.registers(0) > 0
        assert library.registers(2) > 64  # those decide before threads do
        for kind in (0, 1, 2):
            for threads in (32, 33, 96, 256, 512, 1024):
                for shared in (0, 1000, 16384, 49000, 65536):
                    got, expected = ctypes.c_int(), ctypes.c_int()
                    assert library.blocks(kind, threads, shared, ctypes.byref(got), ctypes.byref(expected)) == 0
                    assert got.value == expected.value, (kind, threads, shared)


def test_variables() -> None:
    out = (ctypes.c_int * 13)()
    with emulator.silent():
        assert calls().variables(out) == 0
    assert list(out[:4]) == [20, 30, 0, 205]
    assert list(out[4:8]) == [77, 88, 0, 205]
    assert list(out[8:11]) == [0, 7, 0]
    assert list(out[11:]) == [77, 16]


def test_parameters_are_packed_as_declared() -> None:
    out = ctypes.c_double()
    with emulator.silent():
        assert calls().pass_parameters(ctypes.byref(out)) == 0
    assert out.value == 1 + 2 + 3.5 + 4 + 5 + 6 + 7 + 8 + 9


# what is embedded, the device, and the __CUDA_ARCH__ that must run (None: nothing may)
CHOICES = [
    (("80",), "80", 800),
    (("80",), "86", 800),
    (("80", "89"), "86", 800),
    (("80", "89"), "89", 890),
    (("80", "89"), "90", 890),
    (("80", "90a"), "90", 900),
    (("80", "90a"), "120", 800),
    (("90a",), "80", None),
    (("90a",), "120", None),
    (("80", "120f"), "120", 1200),
    (("80", "120f"), "121", 1200),
    (("120f",), "90", None),
    (("120a",), "121", None),
]


@pytest.mark.parametrize(("embedded", "device", "runs"), CHOICES)
def test_ptx_is_chosen_as_the_driver_does(embedded: tuple[str, ...], device: str, runs: int | None) -> None:
    out = ctypes.c_int()
    emulator.clear()
    with emulator.settings(arch=device):
        error = calls(embedded).arch_of_code(ctypes.byref(out))
    if runs is None:
        assert error == 209
    else:
        assert error == 0
        assert out.value == runs


def test_compressed_ptx_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    out = ctypes.c_int()
    library = program("calls", flags=("--compress-mode=size",))
    assert library.arch_of_code(ctypes.byref(out)) == 209
    assert "--compress-mode=none" in capfd.readouterr().err


# the PTX that is embedded, machine code and the PTX that it was made from, the device, and the __CUDA_ARCH__ that must
# run (None: nothing may, since the driver would run what another PTX says)
MADE_FROM = [
    (("80",), ("80", "90"), "90", 800),
    (("80", "90"), ("80", "90"), "90", 800),
    (("80", "90"), ("90", "90"), "90", 900),
    (("80", "89"), ("89", "120"), "121", 890),
    (("80", "90a"), ("80", "90a"), "90", 800),
    (("80", "120f"), ("120f", "121f"), "121", 1200),
    (("80", "90"), ("80", "90"), "80", 800),
    (("80",), ("90", "90"), "90", None),
    (("89", "90"), ("80", "90"), "90", None),
    (("80", "90a"), ("90", "90"), "90", None),
    (("120", "120f"), ("120f", "121f"), "121", None),
]


@pytest.mark.parametrize(("embedded", "machine", "device", "runs"), MADE_FROM)
def test_machine_code_is_run_as_the_ptx_it_was_made_from(
    embedded: tuple[str, ...],
    machine: tuple[str, str],
    device: str,
    runs: int | None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = ctypes.c_int()
    emulator.clear()
    ptx, code = machine
    library = program("calls", archs=embedded, flags=("-gencode", f"arch=compute_{ptx},code=sm_{code}"))
    with emulator.settings(arch=device):
        error = library.arch_of_code(ctypes.byref(out))
    assert (error, out.value) == ((0, runs) if runs is not None else (209, 0))
    if runs is None:
        assert f"the PTX of its sm_{code} (compute_{ptx.rstrip('af')})" in capfd.readouterr().err
        with emulator.settings(arch="80"):
            assert library.arch_of_code(ctypes.byref(out)) == (0 if "80" in embedded else 209)


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        ((1, 1, 64, 1, 0), 0),
        ((1, 1, 65, 1, 0), 701),  # its launch bounds
        ((1, 1, 1025, 1, 0), 9),
        ((1, 1, 1, 65, 0), 9),
        ((0, 1, 32, 1, 0), 9),
        ((1, 65536, 32, 1, 0), 9),
        ((1, 1, 32, 1, 49153), 1),
    ],
)
def test_launch_configuration(shape: tuple[int, ...], error: int) -> None:
    emulator.clear()
    assert calls().launch_bounded(*shape) == error
    assert emulator.reports() == []


@pytest.mark.parametrize("arch", ["80", "86"])
def test_dynamic_shared_memory_needs_opt_in(arch: str) -> None:
    library = calls()
    most = LIMITS[arch][1] * 1024
    with emulator.settings(arch=arch), emulator.silent():
        assert library.launch_dynamic(49152, 0) == 0
        assert library.launch_dynamic(49153, 0) == 1
        assert library.launch_dynamic(most, most + 1) == 1
        assert library.launch_dynamic(most, most) == 0


def test_copies() -> None:
    assert calls().copies() == 0


def test_pinned_memory_is_seen_by_kernels() -> None:
    out = ctypes.c_int()
    with emulator.silent():
        assert calls().pinned(ctypes.byref(out)) == 0
    assert out.value == 1


def test_streams_and_events() -> None:
    assert calls().streams() == 0


def test_calls_that_wait_are_counted() -> None:
    """Copies of pinned memory on a stream, and questions, wait for nothing; the others do."""
    library = emulator._library()
    pinned, events = ctypes.c_void_p(), ctypes.c_void_p()
    assert library.cudaMallocHost(ctypes.byref(pinned), ctypes.c_size_t(64)) == 0
    assert library.cudaEventCreate(ctypes.byref(events)) == 0
    device, pageable = emulator.empty(64, np.uint8), np.zeros(64, np.uint8)
    size, pitch, host = ctypes.c_size_t(64), ctypes.c_size_t(16), ctypes.c_void_p(pageable.ctypes.data)
    to = ctypes.c_void_p(device.pointer)
    waits = [
        (lambda: library.cudaMemcpyAsync(to, pinned, size, 1, None), 0),
        (lambda: library.cudaMemsetAsync(to, 0, size, None), 0),
        (lambda: library.cudaEventRecord(events, None), 0),
        (lambda: library.cudaStreamQuery(None), 0),
        (lambda: library.cudaMemcpyAsync(to, host, size, 1, None), 1),
        (lambda: library.cudaMemcpy(to, pinned, size, 1), 1),
        (lambda: library.cudaMemcpy2D(host, pitch, to, pitch, ctypes.c_size_t(8), ctypes.c_size_t(3), 2), 1),
        (lambda: library.cudaStreamSynchronize(None), 1),
        (lambda: library.cudaEventSynchronize(events), 1),
        (library.cudaDeviceSynchronize, 1),
    ]
    for call, count in waits:
        emulator.clear()
        assert call() == 0
        assert emulator.waits() == count
    library.cudaEventDestroy(events)
    library.cudaFreeHost(pinned)


def test_unknown_function() -> None:
    assert calls().launch_unknown() == 98
    emulator.clear()


COPY = """
.version 9.0
.target sm_80
.address_size 64
.visible .entry copy(.param .u64 from, .param .u64 to, .param .u32 n)
{
  .reg .pred %p;
  .reg .b32 %r<6>;
  .reg .b64 %d<6>;
  ld.param.u64 %d1, [from];
  ld.param.u64 %d2, [to];
  ld.param.u32 %r1, [n];
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %ntid.x;
  mov.u32 %r4, %tid.x;
  mad.lo.s32 %r2, %r2, %r3, %r4;
  setp.ge.s32 %p, %r2, %r1;
  @%p ret;
  mul.wide.s32 %d3, %r2, 4;
  add.s64 %d1, %d1, %d3;
  add.s64 %d2, %d2, %d3;
  ld.global.u32 %r5, [%d1];
  st.global.u32 [%d2], %r5;
  ret;
}
"""


def test_module_from_text() -> None:
    module = emulator.Module(COPY)
    assert module.kernels() == ["copy"]
    assert "ld.global.u32" in module.opcodes()["copy"]
    values = np.arange(100, dtype=np.int32)
    source, target = emulator.array(values), emulator.empty(100, np.int32)
    with emulator.silent():
        module.launch("copy", 4, 32, source, target, 100)
        counted = emulator.counts()
    assert np.array_equal(target.get(), values)
    assert counted[0]["classes"]["load_global"]["threads"] == 100
    assert (
        counted[0]["classes"]["load_global"]["sectors"] == counted[0]["classes"]["load_global"]["sectors_least"] == 13
    )


def test_error_sticks_until_it_is_cleared() -> None:
    module = emulator.Module(COPY)
    source, target = emulator.array(np.arange(8, dtype=np.int32)), emulator.empty(8, np.int32)
    assert module.try_launch("copy", 1, 32, source, target, 9) == 700
    assert module.try_launch("copy", 1, 32, source, target, 8) == 700
    assert [r["finding"] for r in emulator.reports()] == ["out_of_bounds"] * len(emulator.reports())
    emulator.clear()
    assert module.try_launch("copy", 1, 32, source, target, 8) == 0


def test_mapped_host_memory() -> None:
    module = emulator.Module(COPY)
    source, target = np.arange(64, dtype=np.int32), np.zeros(64, np.int32)
    with emulator.mapped(source, target), emulator.silent():
        pointers = [np.uint64(a.ctypes.data) for a in (source, target)]
        module.launch("copy", 2, 32, *pointers, 64)
    assert np.array_equal(source, target)
    assert module.try_launch("copy", 2, 32, *pointers, 64) == 700
    emulator.clear()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("ld.global.u32 %r5, [%d1];", "ld.global.frob.u32 %r5, [%d1];"),
        ("mul.wide.s32 %d3, %r2, 4;", "mulwide.s32 %d3, %r2, 4;"),
        ("mov.u32 %r3, %ntid.x;", "mov.u32 %r3, %ntid.q;"),
        ("st.global.u32 [%d2], %r5;", "st.global.u32 [%d7], %r5;"),
        ("setp.ge.s32 %p, %r2, %r1;", "setp.ge.s32 %p, %r2;"),
        ("@%p ret;", "@%p ret"),
    ],
)
def test_what_is_not_known_names_its_line(right: str, wrong: str) -> None:
    text = COPY.replace(right, wrong)
    line = next(i for i, s in enumerate(text.split("\n"), 1) if wrong in s)
    with pytest.raises(emulator.EmulatorError, match=rf"\bline {line}\b|\bline {line + 1}\b"):
        emulator.Module(text).launch("copy", 1, 1, np.uint64(0), np.uint64(0), 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("arch", "75"),
        ("mma", "fast"),
        ("sms", "0"),
        ("multiprocessors", "1025"),
        ("seed", "-1"),
        ("colour", "1"),
        ("races", "2"),
    ],
)
def test_settings_refuse_what_cannot_be(name: str, value: str) -> None:
    with pytest.raises(emulator.EmulatorError, match="must be"):
        emulator.set_(name, value)


def test_prediction_is_labelled_and_bounded() -> None:
    module = emulator.Module(COPY)
    n = 4096
    source, target = emulator.array(np.zeros(n, np.int32)), emulator.empty(n, np.int32)
    with emulator.silent():
        module.launch("copy", n // 32, 32, source, target, n)
        moved = 2 * 4 * n
        (bound,) = emulator.predict(moved)
    assert bound["predicted"] is True
    assert bound["bound"] in bound["parts"]
    assert bound["seconds"] == max(bound["parts"].values())
    # an A100 moves 2039e9 bytes a second
    assert bound["parts"]["global"] == pytest.approx(moved / 2039e9)
    assert bound["sector_bytes"] == moved
