"""Cases of instructions that work on a whole warp, a block or memory: a kernel of a .ptx file of this folder, what it
is given and what it must leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
Words = np.ndarray  # uint32, [blocks, threads, words of a thread]


@dataclass(frozen=True)
class Case:
    file: str
    kernel: str
    forms: tuple[str, ...]  # that the kernel tests
    given: Words
    compute: Callable[[Words], Words]
    arch: str = "80"

    @property
    def name(self) -> str:
        return f"{self.file}-{self.kernel}"

    def ptx(self) -> str:
        return (FOLDER / f"{self.file}.ptx").read_text()


def random_words(blocks: int, threads: int, words: int, seed: int = 1) -> Words:
    return np.random.default_rng(seed).integers(0, 1 << 32, (blocks, threads, words), dtype=np.uint32)


def each_lane(f: Callable[[int, Words], tuple[int, ...]]) -> Callable[[Words], Words]:
    """f(lane, words of the warp) gives the words of that lane."""

    def compute(given: Words) -> Words:
        rows = [[f(lane, block) for lane in range(len(block))] for block in given]
        return np.array(rows, dtype=np.int64).astype(np.uint32)

    return compute


# ---- shuffles, votes, matches, reductions


def shfl(mode: str) -> Callable[[int, Words], tuple[int, ...]]:
    def compute(lane: int, warp: Words) -> tuple[int, ...]:
        _, b, c, _ = (int(x) for x in warp[lane])
        clamp = int(warp[lane][2])
        b &= 31
        c, mask = clamp & 31, clamp >> 8 & 31
        most, least = lane & mask | c & ~mask, lane & mask
        source = {"up": lane - b, "down": lane + b, "bfly": lane ^ b, "idx": least | b & ~mask}[mode]
        inside = source >= most if mode == "up" else source <= most
        return int(warp[source if inside else lane][0]), int(inside)

    return compute


def shuffle_words(mode: str) -> Words:
    given = random_words(48, 32, 4)
    dice = np.random.default_rng(2)
    segment = dice.choice([0, 16, 24, 28, 30], size=48)
    for block in range(48):
        # what the CUDA intrinsics make of a width: whole segments; then the clamp is 0 for up, 31 for the others
        given[block, :, 1] = dice.integers(0, 40, 32) if block % 2 else dice.integers(0, 32)
        given[block, :, 2] = (segment[block] << 8) | (0 if mode == "up" else 31)
    given[:, :, 3] = 0xFFFFFFFF
    return given


def votes() -> Words:
    dice = np.random.default_rng(3)
    density = np.array([0.0, 1.0, 0.03, 0.97, 0.5, 0.5])[:, None, None]
    return (dice.random((6, 32, 1)) < density).astype(np.uint32) * 7


def ballot(warp: Words) -> int:
    return sum(int(w != 0) << i for i, w in enumerate(warp[:, 0]))


def match_any(lane: int, warp: Words) -> tuple[int, ...]:
    return (sum(int((w == warp[lane]).all()) << i for i, w in enumerate(warp)),)


def match_all(lane: int, warp: Words) -> tuple[int, ...]:
    same = bool((warp == warp[0]).all())
    return (0xFFFFFFFF if same else 0, int(same))


def values_to_match(words: int) -> Words:
    given = np.random.default_rng(4).integers(0, 3, (8, 32, words), dtype=np.uint32)
    given[0] = 5
    given[1] = 5
    given[1, 31, words - 1] = 6
    return given


def reduction(op: str, kind: str) -> Callable[[int, Words], tuple[int, ...]]:
    def compute(lane: int, warp: Words) -> tuple[int, ...]:
        values = [int(w) for w in (warp[:, 0].view(np.int32) if kind == "s32" else warp[:, 0])]
        if op in ("add", "min", "max"):
            return ({"add": sum, "min": min, "max": max}[op](values) & 0xFFFFFFFF,)
        out = values[0]
        for v in values[1:]:
            out = {"and": out & v, "or": out | v, "xor": out ^ v}[op]
        return (out,)

    return compute


def warp_cases() -> Iterator[Case]:
    for mode in ("up", "down", "bfly", "idx"):
        yield Case("shfl", mode, (f"shfl.sync.{mode}.b32",), shuffle_words(mode), each_lane(shfl(mode)))
    full = 0xFFFFFFFF
    answers: dict[str, Callable[[int, Words], tuple[int, ...]]] = {
        "all": lambda lane, w: (int(ballot(w) == full),),
        "any": lambda lane, w: (int(ballot(w) != 0),),
        "uni": lambda lane, w: (int(ballot(w) in (0, full)),),
        "ballot": lambda lane, w: (ballot(w),),
    }
    for mode, answer in answers.items():
        form = f"vote.sync.{mode}.{'b32' if mode == 'ballot' else 'pred'}"
        yield Case("vote", mode, (form,), votes(), each_lane(answer))
    for bits in (32, 64):
        given = values_to_match(bits // 32)
        yield Case("match", f"any_b{bits}", (f"match.any.sync.b{bits}",), given, each_lane(match_any))
        yield Case("match", f"all_b{bits}", (f"match.all.sync.b{bits}",), given, each_lane(match_all))
    for op, kinds in (
        ("add", "u32 s32"),
        ("min", "u32 s32"),
        ("max", "u32 s32"),
        ("and", "b32"),
        ("or", "b32"),
        ("xor", "b32"),
    ):
        for kind in kinds.split():
            yield Case(
                "redux", f"{op}_{kind}", (f"redux.sync.{op}.{kind}",), random_words(6, 32, 1),
                each_lane(reduction(op, kind)),
            )  # fmt: skip
    yield Case(
        "activemask", "activemask", ("activemask.b32",), votes(),
        each_lane(lambda lane, w: (ballot(w) if w[lane, 0] else 0,)),
    )  # fmt: skip
    masks = np.zeros((1, 32, 1), dtype=np.uint32)
    masks[0] = 0xFFFFFFFF
    yield Case("elect", "elect", ("elect.sync",), masks, each_lane(lambda lane, w: (0, int(lane == 0))), arch="90")


# ---- barriers


def mirrored(width: int) -> Callable[[Words], Words]:
    return lambda given: given.reshape(given.shape[0], -1, width)[:, :, ::-1].reshape(given.shape)


def upper_half_mirrors(given: Words) -> Words:
    out = given.copy()
    out[:, 64:] = given[:, 63::-1]
    return out


def block_answer(f: Callable[[np.ndarray], int]) -> Callable[[Words], Words]:
    return lambda given: np.stack([np.full_like(block, f(block != 0)) for block in given])


def barrier_cases() -> Iterator[Case]:
    given, some = random_words(3, 128, 1), votes_of_blocks()
    exchange = mirrored(128)
    for kernel, form in (("sync", "bar.sync"), ("sync_count", "bar.sync"), ("cta_sync", "bar.cta.sync")):
        yield Case("bar", kernel, (form,), given, exchange)
    yield Case("bar", "warp_sync", ("bar.warp.sync",), given, mirrored(32))
    yield Case("bar", "arrive", ("bar.arrive",), given, upper_half_mirrors)
    for kernel, form in (
        ("sync", "barrier.sync"), ("sync_aligned", "barrier.sync.aligned"), ("cta_sync", "barrier.cta.sync"),
    ):  # fmt: skip
        yield Case("barrier", kernel, (form,), given, exchange)
    yield Case("barrier", "arrive", ("barrier.arrive",), given, upper_half_mirrors)
    for file in ("bar", "barrier"):
        yield Case(file, "red_popc", (f"{file}.red.popc.u32",), some, block_answer(lambda b: int(b.sum())))
        yield Case(file, "red_and", (f"{file}.red.and.pred",), some, block_answer(lambda b: int(b.all())))
        yield Case(file, "red_or", (f"{file}.red.or.pred",), some, block_answer(lambda b: int(b.any())))


def votes_of_blocks() -> Words:
    dice = np.random.default_rng(5)
    density = np.array([0.0, 1.0, 0.01, 0.99, 0.5])[:, None, None]
    return (dice.random((5, 128, 1)) < density).astype(np.uint32)


# ---- matrices of 8 x 8 elements of 16 bits


def fragments(rows: np.ndarray, trans: bool) -> np.ndarray:
    """[8, 8] halves to one word a lane: lane 4 r + c holds elements 2 c and 2 c + 1 of row r."""
    m = rows.T if trans else rows
    return np.ascontiguousarray(m).view(np.uint32).reshape(32)


def ldmatrix(count: int, trans: bool) -> Callable[[Words], Words]:
    def compute(given: Words) -> Words:
        halves = np.ascontiguousarray(given).view(np.uint16)  # [blocks, 32 rows, 8]
        out = [[fragments(b[8 * m : 8 * m + 8], trans) for m in range(count)] for b in halves]
        return np.array(out, dtype=np.uint32).transpose(0, 2, 1)

    return compute


def stmatrix(count: int, trans: bool) -> Callable[[Words], Words]:
    def compute(given: Words) -> Words:
        out = np.zeros((given.shape[0], 32, 8), dtype=np.uint16)
        for block, words in enumerate(given):
            for m in range(count):
                matrix = np.ascontiguousarray(words[:, m]).view(np.uint16).reshape(8, 8)
                out[block, 8 * m : 8 * m + 8] = matrix.T if trans else matrix
        return out.view(np.uint32)

    return compute


def matrix_cases() -> Iterator[Case]:
    for count in (1, 2, 4):
        for trans in (False, True):
            kernel = f"x{count}{'_trans' if trans else ''}"
            form = f"sync.aligned.m8n8.x{count}{'.trans' if trans else ''}.shared.b16"
            yield Case("ldmatrix", kernel, (f"ldmatrix.{form}",), random_words(2, 32, 4), ldmatrix(count, trans))
            yield Case(
                "stmatrix", kernel, (f"stmatrix.{form}",), random_words(2, 32, count), stmatrix(count, trans),
                arch="90",
            )  # fmt: skip
    yield Case(
        "movmatrix", "movmatrix", ("movmatrix.sync.aligned.m8n8.trans.b16",), random_words(2, 32, 1),
        lambda given: np.stack([
            fragments(np.ascontiguousarray(w).view(np.uint16).reshape(8, 8), True).reshape(32, 1) for w in given
        ]),
    )  # fmt: skip


# ---- copies, spaces, fences, moves, control


def same(given: Words) -> Words:
    return given


def first_words(count: int) -> Callable[[Words], Words]:
    def compute(given: Words) -> Words:
        out = given.copy()
        out[:, :, count:] = 0
        return out

    return compute


def copy_cases() -> Iterator[Case]:
    groups = ("cp.async.commit_group", "cp.async.wait_group")
    for kernel, form, words in (("ca_4", "ca", 1), ("ca_8", "ca", 2), ("ca_16", "ca", 4), ("cg_16", "cg", 4)):
        yield Case("cp.async", kernel, (f"cp.async.{form}.shared.global", *groups), random_words(2, 128, words), same)
    yield Case("cp.async", "wait_all", ("cp.async.wait_all",), random_words(2, 128, 4), same)
    yield Case("cp.async", "source_size", (), random_words(2, 128, 4), first_words(2))
    yield Case("cp.async", "nothing", (), random_words(2, 128, 4), first_words(0))
    yield Case("cp.async", "two_groups", (), random_words(2, 128, 1), lambda given: given + given)
    for size in (64, 128, 256):
        form = f"cp.async.cg.shared.global.L2::{size}B"
        yield Case("cp.async", f"hint_L2_{size}B", (form,), random_words(2, 128, 4), same)


def memory_cases() -> Iterator[Case]:
    spaces = ("global", "shared", "local", "const")
    forms = tuple(f"cvta.{to}{space}.u64" for space in spaces for to in ("", "to."))
    yield Case("cvta", "cvta", forms, random_words(2, 128, 1), lambda given: given + np.uint32(201000))
    yield Case("cvta", "param", ("cvta.param.u64",), random_words(2, 128, 1), same)
    yield Case(
        "isspacep", "isspacep", tuple(f"isspacep.{s}" for s in ("global", "shared", "local")), random_words(1, 32, 1),
        lambda given: np.full_like(given, 7),
    )  # fmt: skip
    for form in (
        "membar.cta", "membar.gl", "membar.sys",
        *(f"fence.{s}.{c}" for s in ("acq_rel", "sc") for c in ("cta", "gpu", "sys")),
    ):  # fmt: skip
        yield Case("fence", form.replace(".", "_"), (form,), random_words(1, 32, 1), lambda given: given + np.uint32(1))
    hints = (
        "prefetch.global.L1", "prefetch.global.L2", "prefetchu.L1", "createpolicy.fractional.L2::evict_last.b64",
        "createpolicy.fractional.L2::evict_first.b64", "createpolicy.fractional.L2::evict_last.L2::evict_unchanged.b64",
        "ld.global.L2::cache_hint.u32", "ld.global.nc.L1::no_allocate.L2::128B.u32", "st.global.L2::cache_hint.u32",
    )  # fmt: skip
    yield Case("prefetch", "hints", hints, random_words(1, 64, 1), lambda given: given + given)


def special_registers(given: Words) -> Words:
    blocks, threads, _ = given.shape
    lane = np.arange(threads, dtype=np.uint32) % 32
    per_thread = [
        lane,
        (np.uint64(1) << lane.astype(np.uint64)).astype(np.uint32) - 1,
        np.full(threads, blocks),
        np.arange(threads) // 32,
    ]
    return np.broadcast_to(np.stack(per_thread, axis=1).astype(np.uint32), (blocks, threads, 4))


def swapped_halves(given: Words) -> Words:
    return np.ascontiguousarray(given).view(np.uint16)[:, :, ::-1].copy().view(np.uint32)


def move_cases() -> Iterator[Case]:
    yield Case("mov", "halves_of_b32", ("mov.b32",), random_words(1, 64, 1), swapped_halves, arch="90")
    yield Case("mov", "words_of_b64", ("mov.b64",), random_words(1, 64, 2), lambda g: g[:, :, ::-1], arch="90")
    yield Case("mov", "halves_of_b64", ("mov.b64",), random_words(1, 64, 2), swapped_halves, arch="90")
    yield Case("mov", "one_half", ("mov.b32",), random_words(1, 64, 1), lambda g: g >> 16, arch="90")
    yield Case(
        "mov", "words_of_b128", ("mov.b128",), random_words(1, 64, 4), lambda g: g[:, :, [2, 3, 0, 1]], arch="90"
    )
    yield Case("mov", "special", ("mov.u32",), random_words(3, 96, 1), special_registers, arch="90")
    yield Case("mov", "symbol", ("mov.u64",), random_words(1, 32, 1), lambda g: np.full_like(g, 7), arch="90")


def control_cases() -> Iterator[Case]:
    small = np.random.default_rng(6).integers(0, 9, (2, 64, 1), dtype=np.uint32)
    yield Case("control", "bra", ("bra", "bra.uni"), small, lambda g: g * (g + 1) // 2)
    yield Case("control", "brx", ("brx.idx",), small, lambda g: np.array([10, 21, 32, 43], dtype=np.uint32)[g & 3])
    forms = ("call.uni", "ret", "st.param.b32", "ld.param.b32")
    yield Case("control", "call", forms, random_words(2, 64, 1), lambda g: g + g)
    yield Case("control", "exit", ("exit", "nanosleep.u32"), small, same)


CASES: dict[str, Case] = {}
for _group in (warp_cases, barrier_cases, matrix_cases, copy_cases, memory_cases, move_cases, control_cases):
    for _case in _group():
        assert _case.name not in CASES, _case.name
        CASES[_case.name] = _case
