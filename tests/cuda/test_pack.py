"""pack, unpack, prepack and unprepack on CUDA, on the emulator: the bytes of the CPU for every format, layout and
order, over odd and empty shapes and rows of any stride."""

import mmap
from ctypes import c_int64, c_void_p

import numpy as np
import pytest
import torch
from cuda import kernels
from cuda.weights import FORMATS, LAYOUTS, CCodes
from cuda.weights import codes as view
from emu import emulator
from torch import Tensor

OPS = torch.ops.lowbit
ORDERS = {"canonical": -1, "plain": 0, "nibble_low": 1, "nibble_high": 2, "gptq": 3, "awq": 4}
SHAPES = [(1, 1), (3, 5), (17, 33), (16, 64), (33, 131), (2, 517), (130, 70), (19, 1100), (0, 7), (7, 0)]


def run(op: str, codes: Tensor, name: str, layout: str, shape: tuple[int, int], like: Tensor, *args: int) -> Tensor:
    """The output of an entry point, of the shape of `like`; no findings."""
    given, out = kernels.Device(codes), kernels.unwritten(like)
    more = [c_int64(a) for a in args]
    found = kernels.Call(0).run(f"lowbit_cuda_{op}", view(given, name, layout, *shape), *more, c_void_p(out.pointer))
    assert not found
    return out.get()


@pytest.mark.parametrize("name", ["int3", "int4", "float6_e3m2fn"])
def test_the_same_bits_in_any_order_of_blocks(name):
    shape = (130, 1100)
    codes = random_codes(name, *shape)
    packed = OPS.pack(codes, name)
    tiles = {it: OPS.prepack(packed, name, shape[1], layout=it) for it in ("tile16", "mma64")}
    calls = [("pack", codes, "plain", packed, -1), ("unpack", packed, "canonical", codes, -1)]
    for it in tiles:
        calls += [("prepack", packed, "canonical", tiles[it], LAYOUTS[it]), ("unprepack", tiles[it], it, packed)]
    with kernels.on():
        for op, given, layout, like, *more in calls:
            got = kernels.twice(
                lambda op=op, c=given, at=layout, to=like, more=more: run(op, c, name, at, shape, to, *more)
            )
            assert torch.equal(got, like)


def random_codes(name: str, rows: int, cols: int, seed: int = 0) -> Tensor:
    codes = torch.randint(1 << FORMATS[name]["bits"], (rows, cols), generator=torch.Generator().manual_seed(seed))
    codes = codes.to(torch.uint8)
    return codes.where(codes != 2, 0) if name == "ternary" else codes


def padded(codes: Tensor, columns: int) -> Tensor:
    """The same codes in rows that lie apart, with ones between them."""
    wide = torch.full((codes.shape[0], codes.shape[1] + columns), 255, dtype=torch.uint8)
    wide[:, : codes.shape[1]] = codes
    return wide[:, : codes.shape[1]]


@pytest.mark.parametrize("name", FORMATS)
def test_canonical_and_tiles_of_every_format(name):
    with kernels.on():
        for seed, shape in enumerate(SHAPES):
            codes = random_codes(name, *shape, seed=seed)
            packed = OPS.pack(codes, name)
            assert torch.equal(run("pack", codes, name, "plain", shape, packed, -1), packed)
            assert torch.equal(run("unpack", packed, name, "canonical", shape, codes, -1), codes)
            for layout in ("tile16", "mma64"):
                tiles = OPS.prepack(packed, name, shape[1], layout=layout)
                for given, given_layout in ((packed, "canonical"), (codes, "plain")):
                    got = run("prepack", given, name, given_layout, shape, tiles, LAYOUTS[layout])
                    assert torch.equal(got, tiles)
                assert torch.equal(run("unprepack", tiles, name, layout, shape, packed), packed)
                assert torch.equal(run("unpack", tiles, name, layout, shape, codes, -1), codes)


@pytest.mark.parametrize("arch", kernels.ARCHS)
@pytest.mark.parametrize("name", ["int3", "uint7", "float4_e2m1fn", "float6_e3m2fn", "int8"])
def test_strided_rows_and_tiles_of_tiles(arch, name):
    shape = (35, 141)
    with kernels.on(arch, seed=3):
        codes = random_codes(name, *shape)
        packed = OPS.pack(codes, name)
        for columns in (0, 3, 19, 147):  # 144: rows of whole 16 bytes
            rows = padded(codes, columns)
            assert torch.equal(run("pack", rows, name, "plain", shape, packed, -1), packed)
        cut = torch.nn.functional.pad(packed, (0, 3), value=1)[..., : packed.shape[-1]]
        assert torch.equal(run("unpack", cut, name, "canonical", shape, codes, -1), codes)
        tiles = {it: OPS.prepack(packed, name, shape[1], layout=it) for it in ("tile16", "mma64")}
        assert torch.equal(run("prepack", cut, name, "canonical", shape, tiles["mma64"], 3), tiles["mma64"])
        for a in tiles:
            for b in tiles:
                assert torch.equal(run("prepack", tiles[a], name, a, shape, tiles[b], LAYOUTS[b]), tiles[b])


@pytest.mark.parametrize("order", [o for o in ORDERS if o != "canonical"])
@pytest.mark.parametrize("name", ["uint4", "nf4", "ternary", "uint2", "int8", "float6_e3m2fn"])
def test_orders_of_other_libraries(order, name):
    widths = {"plain": range(1, 9), "gptq": (2, 4, 8)}.get(order, (4,))
    if FORMATS[name]["bits"] not in widths:
        with pytest.raises(ValueError, match="format must have"):
            OPS.pack(random_codes(name, 8, 8), name, layout=order)
        return
    with kernels.on(seed=1):
        for seed, (rows, cols) in enumerate([*SHAPES, (264, 129)]):
            shape = (-(-rows // 8) * 8 if order == "awq" else rows, cols)
            codes = random_codes(name, *shape, seed=seed)
            packed = OPS.pack(codes, name, layout=order)
            for columns in (0, 5):
                got = run("pack", padded(codes, columns), name, "plain", shape, packed, ORDERS[order])
                assert torch.equal(got, packed)
            assert torch.equal(run("unpack", packed, name, "plain", shape, codes, ORDERS[order]), codes)


@pytest.mark.parametrize(("name", "bad"), [("int2", 4), ("ternary", 2), ("float6_e3m2fn", 64), ("uint4", 255)])
@pytest.mark.parametrize("order", ["canonical", "plain", "gptq"])
def test_a_code_of_another_format_is_a_finding(name, bad, order):
    if order == "gptq" and FORMATS[name]["bits"] == 6:
        return
    codes = torch.zeros(40, 70, dtype=torch.uint8)
    codes[39, 69] = bad
    like = OPS.pack(torch.zeros_like(codes), name, layout=order)
    with kernels.on():
        given, out = kernels.Device(codes), kernels.unwritten(like)
        args = view(given, name, "plain", 40, 70), c_int64(ORDERS[order]), c_void_p(out.pointer)
        assert kernels.Call(0).run("lowbit_cuda_pack", *args) == {"bad_code"}


@pytest.mark.parametrize("name", ["int4", "uint7", "float6_e3m2fn"])
def test_what_lies_past_the_matrix_does_not_matter(name):
    shape = (21, 77)
    codes = random_codes(name, *shape)
    packed = OPS.pack(codes, name)
    full = random_codes(name, 32, 128, seed=1)
    full[:21, :77] = codes
    with kernels.on():
        for layout, whole in (("tile16", 80), ("mma64", 128)):
            dirty = OPS.prepack(OPS.pack(full[:, :whole].contiguous(), name), name, whole, layout=layout)
            assert torch.equal(run("unprepack", dirty, name, layout, shape, packed), packed)
            clean = OPS.prepack(packed, name, 77, layout="mma64")
            assert torch.equal(run("prepack", dirty, name, layout, shape, clean, LAYOUTS["mma64"]), clean)


@pytest.mark.parametrize("name", ["int4", "int3", "int8", "float4_e2m1fn", "float6_e3m2fn"])
def test_whole_sectors_are_moved(name):
    """Where rows are aligned, no access touches a sector of which it does not move every byte."""
    shape = (64, 1024)
    codes = random_codes(name, *shape)
    packed = OPS.pack(codes, name)
    tiles = {it: OPS.prepack(packed, name, shape[1], layout=it) for it in ("tile16", "mma64")}
    calls = [("pack", codes, "plain", packed, -1), ("unpack", packed, "canonical", codes, -1)]
    for it in tiles:
        calls += [("prepack", packed, "canonical", tiles[it], LAYOUTS[it]), ("unprepack", tiles[it], it, packed)]
    if FORMATS[name]["bits"] in (4, 8):
        words = OPS.pack(codes, name, layout="gptq")
        calls += [("pack", codes, "plain", words, ORDERS["gptq"]), ("unpack", words, "plain", codes, ORDERS["gptq"])]
    for op, given, layout, like, *more in calls:
        with emulator.listed_instructions():
            with kernels.on():
                run(op, given, name, layout, shape, like, *more)
            counted = [i for launch in emulator.counts() for i in launch["instructions"]]
        assert sum(i["sectors"] for i in counted) > 0
        for i in counted:
            assert i["sectors"] == i["sectors_least"], (op, layout, i)


def test_rows_far_apart():
    codes = random_codes("int4", 2, 256)
    stride = 2**31 + 64
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    memory = mmap.mmap(-1, stride + 4096, flags=flags)
    whole = np.frombuffer(memory, np.uint8)
    rows = [whole[stride * r : stride * r + 256] for r in range(2)]
    for r in range(2):
        rows[r][:] = codes[r].numpy()
    packed = OPS.pack(codes, "int4")
    tiles = OPS.prepack(packed, "int4", 256, layout="mma64")
    far = CCodes(whole.ctypes.data, b"int4", None, LAYOUTS["plain"], 2, 256, stride, 0)
    with emulator.mapped(*rows), kernels.on():
        for op, layout, like in (("pack", -1, packed), ("prepack", LAYOUTS["mma64"], tiles)):
            out = kernels.unwritten(like)
            assert not kernels.Call(0).run(f"lowbit_cuda_{op}", far, c_int64(layout), c_void_p(out.pointer))
            assert torch.equal(out.get(), like)


def test_tiles_must_be_aligned():
    packed = OPS.pack(random_codes("int4", 16, 64), "int4")
    with kernels.on():
        given, out = kernels.Device(packed), kernels.unwritten(torch.empty(600, dtype=torch.uint8))
        args = view(given, "int4", "canonical", 16, 64), c_int64(LAYOUTS["mma64"]), c_void_p(out.pointer + 8)
        with pytest.raises(kernels.KernelError, match="prepack: tiled codes must be aligned to 16 bytes, got 8"):
            kernels.Call(0).run("lowbit_cuda_prepack", *args)
