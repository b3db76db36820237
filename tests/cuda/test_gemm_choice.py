"""What the GEMM families choose (csrc/cuda/gemm_plan.cu, bitplane_gemm.cu) against tables of their own here. Nothing is
launched and no device asked: pointers are numbers."""

from __future__ import annotations

import ctypes
from ctypes import Structure, c_int64
from itertools import product

import pytest
import torch
from cuda.gemms import CGemm
from cuda.kernels import DTYPES, CMatrix, KernelError, library
from cuda.weights import FORMATS, LAYOUTS, CBlockValues, CCodes, CGrouped, CQuantized
from lowbit.spec import FormatSpec

ENGINES = ("int8", "int4", "bfloat16", "half", "float8", "block_scaled")
INT32_MAX = 2**31 - 1
MOST_ROWS = INT32_MAX - 4096  # that a kernel counts
POINTER_VALUE = 1 << 20  # of device memory that nobody reads


class CDevice(Structure):
    _fields_ = [
        (n, c_int64) for n in ("sm", "suffix", "multiprocessors", "shared_per_block", "shared_per_multiprocessor")
    ]


class CChoice(Structure):
    _fields_ = [
        (n, c_int64)
        for n in ("engine", "bits", "float_weights", "blocks", "narrow", "stages", "splits", "grid_x", "grid_y",
                  "shared_bytes", "workspace_bytes")
    ]  # fmt: skip


# CUDA C++ Programming Guide 13.0, "Compute Capabilities": bytes of shared memory a block and a multiprocessor
DEVICES = {
    "80": CDevice(80, 0, 108, 163 << 10, 164 << 10),
    "86": CDevice(80, 0, 82, 99 << 10, 100 << 10),
    "89": CDevice(89, 0, 128, 99 << 10, 100 << 10),
    "90": CDevice(90, 0, 132, 227 << 10, 228 << 10),
    "100": CDevice(100, 0, 148, 227 << 10, 228 << 10),  # not built; nothing but int8 and 16-bit floats is there
    "120f": CDevice(120, ord("f"), 170, 99 << 10, 100 << 10),
}


def blocks(rows: int, cols: int, block: tuple[int, int]) -> tuple[int, int]:
    """As the bindings write them: one block along an axis is 0."""
    return tuple(0 if b == 0 or n <= b else b for n, b in zip((rows, cols), block, strict=True))


def quantized(
    format: str, rows: int, cols: int, *, zero: torch.dtype | None = None, pointer: int = POINTER_VALUE,
    shared_rows: bool = False,
) -> CQuantized:  # fmt: skip
    """A matrix of codes and values at `pointer`; `shared_rows`: one row of scales for all."""
    spec = FormatSpec.parse(format)
    name = spec.element.encode()
    block = blocks(rows, cols, (0 if shared_rows else spec.block_rows, spec.block_cols))
    codes = CCodes(pointer, name, pointer, LAYOUTS[spec.layout], rows, cols, 16 * (-(-cols // 16)), 4)
    q = CQuantized(codes=codes, all_cols=cols)
    coded = CCodes(pointer, spec.scale.encode(), None, 0, rows, cols, cols, 0) if spec.scale else CCodes()
    q.scale = CBlockValues(None if spec.scale else pointer, 0, coded, 1, 1, *block, spec.unit)
    if spec.scale_block is not None:
        q.second = CBlockValues(pointer, 0, CCodes(), 0, 0, 0, 0, 1.0)
        q.scale.second = ctypes.pointer(q.second)
    if zero is not None:
        q.zero = CBlockValues(pointer, DTYPES[zero], CCodes(), 1, 1, *block, 1.0)
    return q


def choose(
    x: CQuantized | torch.dtype, w: CQuantized, m: int, n: int, k: int, device: CDevice | str = "80", *,
    exact: bool = False, out: torch.dtype = torch.float32, experts: int = 0, w_step: int = 0,
) -> CChoice:  # fmt: skip
    c = CGrouped(w=w, m=m, n=n, k=k, out=CMatrix(POINTER_VALUE, DTYPES[out], m, n, n, 1))
    if isinstance(x, CQuantized):
        c.xq = ctypes.pointer(x)
    else:
        c.x = CMatrix(POINTER_VALUE, DTYPES[x], m, k, 8 * (-(-k // 8)), 1)
    c.offs, c.experts, c.w_step = POINTER_VALUE, experts, w_step
    choice, error = CChoice(), ctypes.create_string_buffer(1000)
    at = DEVICES[device] if isinstance(device, str) else device
    failed = library().lowbit_cuda_choose_gemm(
        b"gemm", ctypes.byref(c), ctypes.byref(at), int(exact), ctypes.byref(choice), error, c_int64(len(error))
    )
    if failed:
        raise KernelError(error.value.decode())
    return choice


def of_formats(
    x: str | torch.dtype, w: str, m: int, n: int = 256, k: int = 1024, device: CDevice | str = "80", **more
) -> CChoice:
    zeros = {name: more.pop(name, None) for name in ("x_zero", "w_zero")}
    rows = more.pop("shared_rows", False)
    given = quantized(x, m, k, zero=zeros["x_zero"], shared_rows=rows) if isinstance(x, str) else x
    return choose(given, quantized(w, n, k, zero=zeros["w_zero"], shared_rows=rows), m, n, k, device, **more)


# ---- engines

S4, FP8, BLOCK_SCALED = ("80", "86", "89"), ("89", "120f"), ("120f",)  # where each is one instruction
SAME = {}
PAIRS = [  # x, w, zero points, engine where none of the special ones is, special engines by architecture
    ("int8:row", "int4:row", SAME, "int8", {}),
    ("int4:row", "int4:g64", SAME, "int8", {"int4": S4}),
    ("uint4:row", "int4:g256@mma64", SAME, "int8", {"int4": S4}),
    ("int4:row", "int4:g48", SAME, "int8", {}),  # blocks that end within a multiply
    ("int4:row", "uint4:g64", {"w_zero": torch.uint8}, "int8", {}),
    ("bipolar4:row", "int4:row", SAME, "int8", {}),
    ("mxint8", "mxfp4", SAME, "int8", {}),
    ("nvint4", "nvint4", SAME, "int8", {}),
    ("mxfp4", "mxfp4", SAME, "int8", {"block_scaled": BLOCK_SCALED}),
    ("nvfp4", "nvfp4", SAME, "int8", {"block_scaled": BLOCK_SCALED}),
    ("float4_e2m1fn:b4x32/float8_e8m0fnu", "mxfp4", SAME, "int8", {"block_scaled": BLOCK_SCALED}),
    ("mxfp4", "nvfp4", SAME, "int8", {}),
    ("mxfp6_e2m3", "mxfp6_e2m3", SAME, "int8", {"block_scaled": BLOCK_SCALED}),
    ("mxfp6_e3m2", "mxfp6_e3m2", SAME, "bfloat16", {"block_scaled": BLOCK_SCALED}),
    ("mxfp8_e4m3", "mxfp8_e5m2@mma64", SAME, "bfloat16", {"block_scaled": BLOCK_SCALED, "float8": ("89",)}),
    ("float8_e4m3fn:row", "float8_e4m3fn:g128", SAME, "bfloat16", {"float8": FP8}),
    ("float8_e5m2:tensor", "float8_e4m3fn:b128x128", SAME, "bfloat16", {"float8": FP8}),
    ("float8_e4m3fn:row", "int4:g128", SAME, "bfloat16", {}),
    (torch.bfloat16, "int4:g128", SAME, "bfloat16", {}),
    (torch.float32, "int4:g128", SAME, "bfloat16", {}),
    (torch.float16, "int4:g128@mma64", SAME, "half", {}),
    (torch.float16, "float8_e5m2:row", SAME, "half", {}),
    (torch.float16, "uint4:g64", {"w_zero": torch.uint8}, "half", {}),
    (torch.float16, "uint4:g64", {"w_zero": torch.int32}, "bfloat16", {}),  # 16 bits may not hold code - zero
    (torch.float16, "nf4:g64", SAME, "bfloat16", {}),
]  # fmt: skip


@pytest.mark.parametrize("arch", DEVICES)
@pytest.mark.parametrize(("x", "w", "zeros", "plain", "special"), PAIRS, ids=lambda v: str(v) if v else "")
def test_engines(x, w, zeros, plain, special, arch):
    """By formats and architecture alone: no M takes another, nor one row of scales for all rows, which M = 1 cannot be
    told from."""
    want = next((name for name, archs in special.items() if arch in archs), plain)
    for m, shared_rows in product((1, 2, 16, 17, 100_000), (False, True)):
        for exact in (False, True):
            choice = of_formats(x, w, m, device=arch, exact=exact, shared_rows=shared_rows, **zeros)
            fallback = of_formats(x, w, m, device="90", shared_rows=shared_rows, **zeros)
            expected = want
            if exact and want == "block_scaled":
                expected = "float8" if "8" in w and arch in FP8 else plain
            assert ENGINES[choice.engine] == expected, (m, shared_rows, exact)
            assert ENGINES[fallback.engine] == plain


WORDS = ["bipolar1", "uint2", "int3", "int4", "int5", "ternary"]


def test_binary_engine_of_operands():
    """Planes on both sides, segments that end at multiples of 128 columns and fit int32, M and widths by the table."""
    function = library().lowbit_cuda_bitplane_engine_of

    def binary(x: str, w: str, m: int = 4, k: int = 1024, sm: int = 80, **zeros: torch.dtype) -> bool:
        xq = quantized(x, m, k, zero=zeros.get("x_zero"))
        c = CGemm(xq=ctypes.pointer(xq), w=quantized(w, 64, k, zero=zeros.get("w_zero")), m=m, n=64, k=k)
        return function(ctypes.byref(c), sm) == 0

    for (x, w), sm, m in product(product(WORDS, WORDS), (80, 86, 89, 90, 100, 120), (1, 8, 9, 4096)):
        p, q = (FORMATS[f]["bits"] for f in (w, x))
        want = sm <= 90 and p <= 4 and (p * q <= 6 or m <= 8)
        assert binary(x + ":row", w + ":row", m, sm=sm) == want, (x, w, sm, m)
        assert binary(x + ":row", w + ":g128", m, sm=sm, w_zero=torch.int32) == want
        assert not binary(x + ":row", w + ":g64", m, sm=sm)
        assert not binary(x + ":g256", w + ":g128", m, sm=sm)
        assert not binary(x + ":row@plain", w + ":row", m, sm=sm)
        assert not binary(x + ":row", w + ":row@mma64", m, sm=sm)
    assert binary("uint8:row", "uint4:row", k=INT32_MAX // (255 * 15))
    assert not binary("uint8:row", "uint4:row", k=INT32_MAX // (255 * 15) + 1)


# ---- loops


@pytest.mark.parametrize("arch", DEVICES)
def test_loops_grids_and_workspaces(arch):
    """Up to 16 rows of x the narrow loop: tiles of 16 x 16, K split where they leave multiprocessors idle, by units of
    512 columns, at least four to a block; then the wide one, tiles of 128 x 64, whose stripes are below."""
    sms = DEVICES[arch].multiprocessors
    for m, n, k in product((1, 8, 9, 16, 17, 64, 65, 100_000), (1, 16, 17, 300, 70_000), (64, 4096, 70_000)):
        choice = of_formats(torch.bfloat16, "int4:g128@mma64", m, n, k, arch)
        assert choice.narrow == (m <= 16)
        assert choice.bits == 4
        if not choice.narrow:
            assert (choice.grid_x, choice.grid_y) == (-(-n // 128) * -(-m // 64), choice.splits)
            continue
        tiles, units = -(-n // 16) * -(-m // 16), -(-k // 512)
        splits = max(1, min(2 * sms // tiles, units // 4))
        splits = -(-units // -(-units // splits))  # none is left empty
        assert (choice.grid_x, choice.grid_y, choice.splits) == (tiles, splits, splits)
        # a counter a tile, and a record of 1,792 bytes for each of the four groups of a unit
        records = tiles * units * (4 if k > 128 else 1) * 1792
        assert choice.workspace_bytes == (0 if splits == 1 else -(-4 * tiles // 256) * 256 + records)


STRIPES = [  # x, w, M, N, K, stripes on sm_80 and sm_90
    (torch.bfloat16, "int4:g128@mma64", 32, 4096, 4096, (3, 8)),
    (torch.bfloat16, "int4:g128@mma64", 64, 4096, 4096, (3, 4)),
    (torch.bfloat16, "int4:g128@mma64", 128, 4096, 4096, (1, 1)),  # records of 36 MB
    (torch.bfloat16, "int4:row@mma64", 128, 4096, 4096, (1, 4)),
    (torch.bfloat16, "int4:g32@mma64", 32, 4096, 4096, (1, 1)),  # of 16 times the bytes of the weights
    (torch.bfloat16, "int4:g128@mma64", 32, 14336, 4096, (1, 1)),  # 112 tiles
    (torch.bfloat16, "int4:row@mma64", 32, 4096, 14336, (6, 4)),
    (torch.bfloat16, "int4:g128@mma64", 256, 576, 1536, (3, 3)),
    (torch.bfloat16, "int4:g128@mma64", 32, 576, 576, (1, 1)),  # nine steps, no more than a launch
    ("int8:row@plain", "int4:row@mma64", 32, 4096, 4096, (3, 8)),
    ("int8:row@plain", "int4:row@mma64", 128, 4096, 4096, (3, 4)),
    ("int8:row@plain", "int4:row@mma64", 256, 4096, 4096, (1, 1)),  # 128 tiles
]


@pytest.mark.parametrize(("x", "w", "m", "n", "k", "stripes"), STRIPES, ids=str)
def test_stripes_of_shapes(x, w, m, n, k, stripes):
    """Where the wide loop shares K, by shapes of models; fewer the more rows and the smaller the groups."""
    assert tuple(of_formats(x, w, m, n, k, arch).splits for arch in ("80", "90")) == stripes


@pytest.mark.parametrize("arch", DEVICES)
def test_stripes_and_their_workspaces(arch):
    """No more blocks than two a multiprocessor; a counter a block, and a record for each part of all stripes but the
    first, which leaves one, 64 MB at most."""
    sms = DEVICES[arch].multiprocessors
    split = 0
    for m, n, k, group in product((17, 32, 64, 65, 256, 5000), (1, 300, 4096, 20_000), (64, 1088, 4096, 70_000),
                                  (64, 128, 2048)):  # fmt: skip
        choice = of_formats(torch.bfloat16, f"int4:g{group}@mma64", m, n, k, arch)
        tiles = -(-n // 128) * -(-m // 64)
        assert choice.grid_x == tiles
        assert choice.grid_y == choice.splits
        assert choice.splits == 1 or choice.splits * tiles <= 2 * sms
        assert choice.workspace_bytes <= 64 << 20
        if choice.splits == 1:
            assert choice.workspace_bytes == 0
            assert not (m <= 64 and n <= 300 and k == 4096 and group >= 128)
            continue
        split += 1
        record = 2832 + 4096 * -(-min(m, 64) // 8)
        left = choice.workspace_bytes - -(-4 * tiles * choice.splits // 256) * 256
        records, rest = divmod(left, tiles * record)
        assert rest == 0
        of_stripe, rest = divmod(records - 1, choice.splits - 1)
        assert rest == 0
        assert (choice.splits - 1) * of_stripe < -(-k // min(group, 512)) <= choice.splits * of_stripe
        assert of_stripe * min(group, 512) % 512 == 0
    assert split >= 8


SIZES = [1, 65535 * 8 + 1, 65535 * 64 + 1, 2**30 + 1, MOST_ROWS]


def test_sizes():
    """Every M, N and K below 2^31 less what a tile may stand over; what is refused names its limit."""
    for m in SIZES:
        assert of_formats("int8:row@plain", "int4:row@mma64", m, 1, 64).grid_x == (1 if m <= 16 else -(-m // 64))
    for n in SIZES:
        assert of_formats("int8:row@plain", "int4:row@mma64", 1, n, 64).grid_x == -(-n // 16)
        assert of_formats("int8:row@plain", "int4:row@mma64", 64, n, 64).grid_x == -(-n // 128)
    for k in SIZES:
        for x, w in [
            ("int8:row@plain", "int4:g128@mma64"),
            (torch.bfloat16, "int4:row"),
            ("uint8:row", "bipolar8:row"),
        ]:
            for m in (1, 20):
                choice = of_formats(x, w, m, 1, k)
                assert choice.splits <= 2 * 108
                assert choice.grid_y == choice.splits
    for name, sizes in {"M": (MOST_ROWS + 1, 1, 64), "N": (1, MOST_ROWS + 1, 64), "K": (1, 1, MOST_ROWS + 1)}.items():
        with pytest.raises(KernelError, match=f"gemm: {name} must be at most 2147479551 on CUDA, got 2147479552; "):
            of_formats("int8:row@plain", "int4:row@mma64", *sizes)
    with pytest.raises(KernelError, match="gemm: out must have less than 2\\^31 tiles on CUDA, got 2155872256; "):
        of_formats("int8:row@plain", "int4:row@mma64", 64 * 32896, 128 * 65536, 64)
    with pytest.raises(KernelError, match="gemm: N must be at most 2147479551 on CUDA, got 2147479552; "):
        of_formats(torch.bfloat16, "complex2:row", 1, (MOST_ROWS + 1) // 2, 64)


# the largest |code - zero| there is for each, times the largest |x|: what one product may amount to
LONGEST = [
    ("int8:row@plain", "int8:row@mma64", {}, 131_071),  # of bytes, 128 * 128
    ("int8:row@plain", "int4:row@mma64", {}, 131_071),  # lifted to bytes
    ("uint8:row@plain", "bipolar8:row@mma64", {}, INT32_MAX // (255 * 255)),
    ("int8:row@plain", "uint4:row@mma64", {"w_zero": torch.uint8}, INT32_MAX // (128 * 255)),  # 0 - 255
    ("int8:row@plain", "uint4:row@mma64", {"w_zero": torch.int8}, INT32_MAX // (128 * 143)),  # 15 + 128
    ("uint8:row@plain", "int8:row@mma64", {"x_zero": torch.uint8}, INT32_MAX // (255 * 128)),
    ("int8:row@plain", "int8:row@mma64", {"x_zero": torch.uint8, "w_zero": torch.uint8}, INT32_MAX // (383 * 383)),
    ("int8:row@plain", "float4_e2m1fn:row@mma64", {"w_zero": torch.uint8}, INT32_MAX // (128 * 522)),  # 2 (6 + 255)
    ("int8:row@plain", "uint4:row@mma64", {"w_zero": torch.float32}, 131_071),  # beside the sum
]  # fmt: skip


@pytest.mark.parametrize(("x", "w", "zeros", "longest"), LONGEST, ids=lambda v: str(v) if v else "")
def test_longest_segments(x, w, zeros, longest):
    """The wide loop sums a segment in int32; parts of a longer one, 65,536 columns each, go through the workspace and
    are joined in int64. Many go to the narrow loop, which joins in shared memory, but for those of experts."""
    one = CDevice(80, 0, 1, 163 << 10, 164 << 10)  # nothing is shared
    groups = w.replace(":row", ":g128")
    for k, parts in ((longest, 0), (longest + 1, -(-(longest + 1) // 65536))):
        for experts in (0, 4):
            choice = of_formats(x, w, 100, 256, k, one, experts=experts, **zeros)
            assert (choice.narrow, choice.splits) == (0, 1)
            tiles = 2 * (2 + experts)
            assert choice.grid_x == tiles
            assert choice.workspace_bytes == (256 + tiles * parts * (2832 + 8 * 4096) if parts else 0)
            assert of_formats(x, groups, 100, 256, k, one, experts=experts, **zeros).workspace_bytes == 0
    assert of_formats(x, w, 64 * 1024, 256, longest + 1, **zeros).narrow
    assert not of_formats(x, w, 64 * 1024, 256, longest + 1, experts=4, **zeros).narrow


def test_zero_points_of_32_bits():
    """May lie anywhere: the wide loop joins in 64 bits, which its kernel of weights through rows has; the narrow one
    always does, and so do records of stripes. A raw sum is one modulo 2^32 and needs none."""
    for zeros in ({"w_zero": torch.int32}, {"x_zero": torch.int32}):
        pair = ("int8:row@plain", "uint4:g128@mma64")
        assert of_formats(*pair, 100, **zeros).bits == 0
        assert not of_formats(*pair, 100, **zeros).narrow
        assert of_formats(*pair, 16, **zeros).bits == 4
        assert of_formats(*pair, 100, out=torch.int32, **zeros).bits == 4
        split = of_formats("int8:row@plain", "uint4:row@mma64", 100, 256, 131_071, **zeros)
        assert (split.narrow, split.splits > 1, split.bits) == (0, True, 4)
    assert of_formats("int8:row@plain", "uint4:g128@mma64", 100, w_zero=torch.uint8).bits == 4


# ---- shared memory

ROOM = [(x, w) for x in (torch.float32, torch.bfloat16, torch.float16, "nf4:g64", "float8_e4m3fn:row")
        for w in ("nf4:g64", "table4:g64", "int4:g128", "float8_e4m3fn:g16", "mxfp4", "nf4:g16", "nf4:g2", "table8:row",
                  "complex2:g16", "int8:g24")]  # fmt: skip


@pytest.mark.parametrize("arch", DEVICES)
def test_every_format_has_room(arch):
    """On 99 KB a block too, where three terms of both operands leave one stage: grouped, many rows and one."""
    for (x, w), zero in product(ROOM, (None, torch.float32, torch.int32)):
        if zero is not None and "complex" in w:
            continue
        many = of_formats(x, w, 1000, device=arch, w_zero=zero)
        assert not many.narrow, (x, w, zero)
        assert not of_formats(x, w, 1000, device=arch, w_zero=zero, experts=8).narrow
        of_formats(x, w, 1, device=arch, w_zero=zero)
        assert many.shared_bytes <= DEVICES[arch].shared_per_block
    # K too short to be shared, and many parts a unit: where the narrow loop has no room for their records, the wide one
    assert of_formats(torch.float32, "nf4:g2", 1, k=64, device=arch).narrow == (
        DEVICES[arch].shared_per_block > 99 << 10
    )
    least = of_formats(torch.float32, "nf4:g64", 1000, device=arch)
    assert least.stages == (1 if DEVICES[arch].shared_per_block == 99 << 10 else 2)


def test_stages_let_two_blocks_share_a_multiprocessor():
    """Unless that takes one of three stages. CUDA keeps 1 KB of each block for itself."""
    seen = set()
    for (x, w), m in product(
        [("int8:row@plain", "int4:row@mma64"), ("int8:g64@plain", "int8:g32@mma64"),
         (torch.bfloat16, "int4:g128@mma64"), (torch.bfloat16, "int8:row@mma64"),
         (torch.float32, "int4:g128@mma64"), (torch.float32, "int8:g16@mma64"),
         (torch.bfloat16, "int4:g24")], (1, 100),
    ):  # fmt: skip

        def chosen(per_block: int, per_multiprocessor: int, x=x, w=w, m=m) -> CChoice:
            return of_formats(x, w, m, 256, 1024, CDevice(80, 0, 1, per_block, per_multiprocessor))

        bytes_of = {}  # by stages with all windows of scales, as less and less memory a block is left
        left = 1 << 30
        while True:
            try:
                at = chosen(left, 0)
            except KernelError:
                break
            if at.narrow != (m == 1) or at.stages in bytes_of:
                break
            bytes_of[at.stages] = at.shared_bytes
            left = at.shared_bytes - 1
        for device in DEVICES.values():
            fit = [s for s in bytes_of if bytes_of[s] <= device.shared_per_block]
            two = [s for s in fit if s >= 3 and 2 * (bytes_of[s] + 1024) <= device.shared_per_multiprocessor]
            got = chosen(device.shared_per_block, device.shared_per_multiprocessor)
            if not fit:  # with fewer windows there is room
                assert got.shared_bytes <= device.shared_per_block
                continue
            want = max(two or fit)
            assert (got.stages, got.shared_bytes) == (want, bytes_of[want])
            seen.add((want, bool(two)))
    assert {(4, True), (3, True), (2, False)} <= seen


# ---- alignment


def test_prepacked_weights_must_be_aligned():
    def run(pointer: int = POINTER_VALUE, layout: str = "mma64", **more) -> CChoice:
        return choose(
            torch.bfloat16, quantized(f"int4:g128@{layout}", 256, 1024, pointer=pointer), 20, 256, 1024, **more
        )

    assert run(experts=4, w_step=16 * 33).bits == 4
    with pytest.raises(
        KernelError, match="gemm: w must begin at a multiple of 16 bytes when prepacked, got 8 bytes past"
    ):
        run(POINTER_VALUE + 8)
    with pytest.raises(
        KernelError, match="gemm: w must have experts a multiple of 16 bytes apart when prepacked, got 24"
    ):
        run(experts=4, w_step=24)
    run(POINTER_VALUE + 8, "tile16")
    run(POINTER_VALUE + 4, "canonical", experts=4, w_step=4)


def test_choice_of_types():
    """The structures of both sides agree: what is asked for comes back."""
    choice = choose(torch.float16, quantized("float8_e4m3fn:row@mma64", 64, 128), 20, 64, 128, "89")
    assert (ENGINES[choice.engine], choice.bits, choice.float_weights, choice.blocks) == ("half", 8, 1, 0)
