"""The suite on tiny shapes: rows, what it refuses to time, peers that are missing, tables and pictures."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lowbit import _C, microbench, ops
from lowbit.microbench import Sample

import cases  # isort: skip
import peers  # isort: skip
import pictures  # isort: skip
import products  # isort: skip
import run  # isort: skip
import tables  # isort: skip
import transforms  # isort: skip

PROBED = 1e-4


class Limits:
    """Stands in for the library of ceilings, which tests do not build."""

    lacking = ("amx_int8",)

    def __init__(self, rates: dict[str, dict[int, float]]):
        self.rates = rates
        self.probes = 0

    def measure(self, threads: tuple[int, ...]) -> None:
        assert threads == (1,)

    @contextmanager
    def buffer(self, size: int, pages: str) -> Iterator[int]:
        yield 0

    def read(self, buffer: int, size: int, threads: int) -> float:
        self.probes += 1
        return PROBED

    def to_dict(self) -> dict[str, Any]:
        return {
            "rates": {n: {str(t): r for t, r in of.items()} for n, of in self.rates.items()},
            "lacking": ["amx_int8"],
        }


@pytest.fixture
def limits(rates: dict[str, dict[int, float]], monkeypatch: pytest.MonkeyPatch) -> Limits:
    monkeypatch.setattr(microbench, "cache_bytes", lambda: 0)
    return Limits(rates)


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, str], None]:
    """Puts a peer into place whose result is F.linear's times `factor`."""

    def put(factor: float, name: str) -> None:
        def candidates(problem: peers.Problem) -> Iterator[peers.Candidate]:
            dense = problem.dense
            yield peers.Candidate(name, "fp32", dense, dense.nbytes, lambda x: lambda turn: F.linear(x, dense) * factor)

        module = ModuleType(f"peers.{name}")
        module.candidates = candidates  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"peers.{name}", module)

    return put


def rows(limits: Limits, *files: str, weight: str = "int4:g32", m: tuple[int, ...] = (1, 3)) -> list[products.Row]:
    dense = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    case = cases.Product(32, 64, weight, ("int8:row",), m)
    cache = products.PeerCache(files)
    return list(products.measure(case, dense, limits, 1, cache, 0.0, probe_bytes=4096))


def test_calls_take_turns_in_both_orders() -> None:
    order: list[str] = []
    calls = {name: lambda turn, name=name: order.append(name) for name in "abc"}
    times = microbench.interleaved(calls, 2)
    assert "".join(order) == "abccbaabc"
    assert {name: len(t) for name, t in times.items()} == {"a": 2, "b": 2, "c": 2}


def test_spread_is_between_the_quartiles() -> None:
    sample = Sample.of([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (sample.median, sample.least, sample.spread) == (3.0, 1.0, pytest.approx(2 / 3))
    assert sample.noisy
    # one outlier is no spread
    assert not Sample.of([1.0, 1.0, 1.0, 1.0, 9.0]).noisy
    assert Sample.of([1.0]) == Sample(1.0, 1.0, 0.0)


def test_noisy_rows_are_measured_again_and_the_calmer_try_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = [{"a": [1.0, 2.0, 3.0]}, {"a": [5.0, 5.0, 5.1]}, {"a": [9.0, 9.0, 9.0]}]
    monkeypatch.setattr(microbench, "interleaved", lambda *_: tries.pop(0))
    assert microbench.sampled({}, 3, tries=3)["a"].median == 5.0
    assert len(tries) == 1, "a calm try is not repeated"


def test_row(limits: Limits, peer: Callable[[float, str], None]) -> None:
    peer(1.0, "right")
    one, three = rows(limits, "right")
    assert [e.name for e in one.entries] == ["lowbit", "right"]
    assert limits.probes >= 9, "the probe takes turns with the calls at one row"
    assert one.read_gb_s != 20, "and its bandwidth counts there"
    assert three.read_gb_s == 20, "and not elsewhere: the measured ceiling"
    mine = three.entries[0]
    floor = max(mine.bytes / 20e9, 2 * 3 * 32 * 64 / 400e9)
    assert mine.of_limit == pytest.approx(1e6 * floor / mine.us)
    assert 0.001 < mine.error < 0.02, "against exact activations, those of the call have 8 bits"
    json.dumps(one.to_dict())


def test_wrong_peer_is_named_and_not_timed(limits: Limits, peer: Callable[[float, str], None]) -> None:
    peer(1.1, "wrong")
    for row in rows(limits, "wrong"):
        assert [e.name for e in row.entries] == ["lowbit"]
        assert row.refused == {"wrong": "wrong: relative error 0.1"}


def test_every_copy_of_a_peer_was_used_before_it_is_timed(
    limits: Limits, peer: Callable[[float, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a library does when it first sees a weight is no part of its time."""
    peer(1.0, "lazy")
    turns: list[int] = []
    module = sys.modules["peers.lazy"]
    monkeypatch.setattr(peers, "copy_count", lambda: 3)

    def bind(x: torch.Tensor, dense: torch.Tensor) -> Callable[[int], torch.Tensor]:
        return lambda turn: turns.append(turn) or F.linear(x, dense)

    module.candidates = lambda problem: iter(  # type: ignore[attr-defined]
        [peers.Candidate("lazy", "fp32", problem.dense, 1, lambda x: bind(x, problem.dense))]
    )
    rows(limits, "lazy", m=(3,))
    assert turns[:4] == [peers.CHECK, 0, 1, 2]
    assert turns[4:6] == [0, 1], "and then the rounds begin"


def test_missing_peer_is_named(limits: Limits) -> None:
    (row,) = rows(limits, "not_there", m=(3,))
    assert row.refused == {"not_there": "ModuleNotFoundError: No module named 'peers.not_there'"}


def test_peer_that_fails_is_named(limits: Limits, peer: Callable[[float, str], None]) -> None:
    def fail(x: torch.Tensor) -> Any:
        raise RuntimeError("could not create\na primitive")

    peer(1.0, "fails")
    module = sys.modules["peers.fails"]
    module.candidates = lambda problem: iter([peers.Candidate("fails", "fp32", problem.dense, 1, fail)])  # type: ignore[attr-defined]
    (row,) = rows(limits, "fails", m=(3,))
    assert row.refused == {"fails": "RuntimeError: could not create"}


def test_own_wrong_result_is_an_error(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    gemm = ops.gemm
    monkeypatch.setattr(ops, "gemm", lambda *a, **k: gemm(*a, **k) * 1.1)
    with pytest.raises(ValueError, match=r"must be right to be timed, got a relative error of 0\.1"):
        rows(limits)


def test_torch_peers_are_right(limits: Limits) -> None:
    for weight, names in (
        ("int8:row", {"torch _int_mm (int32 out)", "torch _weight_int8pack_mm"}),
        ("int4:g32", {"torch _weight_int4pack_mm g32"}),
    ):
        (row,) = rows(limits, "torch_ops", weight=weight, m=(17,))
        assert {e.name for e in row.entries} >= {"lowbit", "torch F.linear bf16", *names}, row.refused


def test_weights_rotate(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row reads the weight from memory: calls of adjacent turns have different codes."""
    seen = []
    gemm = ops.gemm
    monkeypatch.setattr(ops, "gemm", lambda x, codes, *a, **k: seen.append(codes.data_ptr()) or gemm(x, codes, *a, **k))
    rows(limits, m=(1,))
    assert all(a != b for a, b in pairwise(seen[1:]))


def test_wider_peers_serve_a_width_without_any() -> None:
    assert products.peer_width("int3:g64") == (3, 64)
    dense = torch.randn(32, 64)
    found = products.find_peers(dense, "int3:g32", 1, ("torch_ops",))
    assert "torch _weight_int4pack_mm g32" in {c.name for c in found.candidates}


def test_peers_are_made_once_for_weights_that_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(products, "find_peers", lambda dense, weight, *_: made.append(weight) or peers.Found())
    cache, dense = products.PeerCache(()), torch.zeros(4, 4)
    for weight in ("int8:g64", "int5:g64", "int4:g64", "int3:g64", "int3:g32"):
        cache.get(dense, weight, 1)
    cache.get(dense, "int3:g32", 2)
    assert made == ["int8:g64", "int4:g64", "int3:g32", "int3:g32"]


def test_transform_and_codec_rows(limits: Limits) -> None:
    places = list(transforms.hadamard(64, "bfloat16", limits, 1, rows=8, seconds=0))
    assert [r.what for r in places] == ["64, bfloat16, out of place", "64, bfloat16, in place"]
    codes = list(transforms.codecs("int4:g32", limits, 1, (8, 64), 0))
    assert [r.op for r in codes] == ["quantize", "quantize stochastic", "dequantize", "pack", "unpack", "prepack"]
    by_op = {r.op: r for r in codes}
    assert by_op["dequantize"].bytes == 8 * 64 * 4 + 8 * 64 // 2 + 8 * 2 * 4
    assert by_op["unpack"].bytes == 8 * 64 + 8 * 64 // 2
    assert by_op["unpack"].of_limit == pytest.approx(by_op["unpack"].copy_us / by_op["unpack"].us)


@pytest.mark.parametrize("factor", [1.0, 1.1, None])
def test_transforms_of_others_are_checked(
    limits: Limits, monkeypatch: pytest.MonkeyPatch, factor: float | None
) -> None:
    """A peer that is right is timed in its place, one that is wrong or fails is named; 16-bit rows have none."""
    module = ModuleType("peers.other")

    def call(x: torch.Tensor) -> torch.Tensor:
        if factor is None:
            raise RuntimeError("no such size")
        return factor * torch.ops.lowbit.hadamard(x, scale=1.0)

    module.transforms = lambda n, threads: iter([peers.Transform("other", False, call)])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "peers.other", module)
    monkeypatch.setattr(peers.collect_transforms, "__defaults__", (("other", "not_there"),))
    apart, inside = transforms.hadamard(64, "float32", limits, 1, rows=8, seconds=0)
    assert "not_there" in apart.refused
    assert (apart.peer, inside.peer) == (("other", "") if factor == 1 else ("", ""))
    assert (apart.peer_us > 0) == (factor == 1)
    assert ("other out of place" in apart.refused) == (factor != 1)
    assert [r.refused for r in transforms.hadamard(64, "bfloat16", limits, 1, rows=8, seconds=0)] == [{}, {}]


def test_stochastic_round_row(limits: Limits) -> None:
    (row,) = transforms.stochastic_round("int8", limits, 1, (64, 64), 0)
    assert row.bytes == 2 * 64 * 64 * 4
    assert row.error < 0.01


def test_rows_of_another_process(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child is given the rates and says its instruction set; one that fails is an error with its last line."""
    asked: dict[str, Any] = {}

    def child(command: list[str], **options: Any) -> Any:
        asked.update(options)
        return SimpleNamespace(returncode=asked.get("fails", 0), stdout='[{"op": "hadamard"}]', stderr="a\nboom")

    monkeypatch.setattr(run.subprocess, "run", child)
    (row,) = run.elsewhere("avx2", limits, 1)
    assert row.to_dict() == {"op": "hadamard"}
    assert asked["env"]["LOWBIT_ISA"] == "avx2"
    assert json.loads(asked["input"])["rates"]["fp32_fma"]["1"] == limits.rates["fp32_fma"][1]
    monkeypatch.setattr(run.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1, stdout="", stderr="boom"))
    with pytest.raises(ValueError, match="transforms on avx2 must be measured, got boom"):
        run.elsewhere("avx2", limits, 1)


def test_wrong_transform_is_refused(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microbench, "relative_error", lambda got, want: 0.5)
    with pytest.raises(ValueError, match="hadamard of size 64 must be right to be timed"):
        list(transforms.hadamard(64, "float32", limits, 1, rows=8, seconds=0))


@pytest.mark.parametrize("full", [False, True])
def test_selections_have_every_goal(full: bool) -> None:
    listed = list(cases.products(full))
    assert {(c.n, c.k) for c in listed} == set(cases.SHAPES)
    weights = {c.weight.split(":")[0] for c in listed}
    assert weights >= {*(cases.integer(b) for b in range(1, 9)), "ternary", "nf4", "float8_e4m3fn", "mxfp4", "nvfp4"}
    assert {a for c in listed for a in c.activations} >= {"int8:row", "bf16", "fp16", "fp32", "mxfp4", "int2:row"}
    assert {m for c in listed for m in c.rows} == {1, 16, 128, 512}
    assert len(cases.transforms(full)) >= 14
    assert len(cases.codecs(full)) >= 8


def suite(limits: Limits, monkeypatch: pytest.MonkeyPatch, minutes: float) -> dict[str, Any]:
    case = [cases.Product(32, 64, f"int{b}:row", ("int8:row",), (1, 3)) for b in (8, 4)]
    monkeypatch.setattr(cases, "products", lambda full: case)
    monkeypatch.setattr(cases, "transforms", lambda full: ((64, "float32"),))
    monkeypatch.setattr(cases, "codecs", lambda full: ())
    monkeypatch.setattr(cases, "ROUNDED", ())
    monkeypatch.setattr(run, "elsewhere", lambda isa, limits, threads: [])
    monkeypatch.setattr(peers, "FILES", ("torch_ops",))
    monkeypatch.setattr(products.PeerCache.__init__, "__defaults__", (("torch_ops",),))
    return run.run(False, minutes, (1,), limits)


def test_run_and_what_is_shown_of_it(limits: Limits, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = json.loads(json.dumps(suite(limits, monkeypatch, 10)))
    assert result["machine"].keys() >= {"processor", "compiler", "commit", "threads"}
    assert (len(result["products"]), len(result["transforms"])) == (4, 2)
    assert result["not_measured"] == result["wrong"] == []
    shown = tables.products(result)
    mine, best = tables.own(result["products"][0]), tables.best_peer(result["products"][0])
    assert best is not None
    assert f"| {best['us'] / mine['us']:.2f} |" in shown
    assert "`amx_int8`" in tables.ceilings(result, "here.json")
    assert "64, float32, in place" in tables.transforms(result)
    drawn = pictures.draw(result, tmp_path)
    assert [p.name for p in drawn] == ["time_by_bits.svg", "limit_by_rows.svg"]
    assert pictures.by_rows(result, 1).keys() == {"int8:row", "int4:row"}
    before = [p.read_bytes() for p in drawn]
    assert [p.read_bytes() for p in pictures.draw(result, tmp_path)] == before, "the same bytes for the same result"


def test_run_names_what_time_left_out(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    result = suite(limits, monkeypatch, 0)
    assert result["products"] == result["transforms"] == []
    assert len(result["not_measured"]) == 3 + (_C.isa() != "avx2")


def test_run_tells_wrong_results_and_goes_on(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    gemm = ops.gemm
    monkeypatch.setattr(ops, "gemm", lambda *a, **k: gemm(*a, **k) * 1.1)
    result = suite(limits, monkeypatch, 10)
    assert len(result["wrong"]) == 2
    assert len(result["transforms"]) == 2


def test_result_files_are_named_after_machines() -> None:
    assert run.machine_name("Intel(R) Xeon(R) Processor @ 2.1", 2) == "intel-xeon-2-1-2t"
    assert run.machine_name("AMD EPYC", 1) == "amd-epyc-1t"
