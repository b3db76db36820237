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
    return list(products.measure(case, dense, limits, 1, cache, seconds=0.0, probe_bytes=4096))


def test_products_of_one_row_have_a_lead(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not the probe, which has one buffer."""
    led: list[list[str]] = []
    sampled = microbench.sampled

    def watch(calls: Any, *rest: Any, lead: Any) -> Any:
        led.append(list(lead))
        return sampled(calls, *rest, lead=lead)

    monkeypatch.setattr(microbench, "sampled", watch)
    case, dense = cases.Product(32, 64, "int4:g32", ("int8:row",), (1, 17)), torch.randn(32, 64)
    list(products.measure(case, dense, limits, 1, products.PeerCache(()), probe_bytes=4096))  # type: ignore[arg-type]
    assert led == [[products.OWN], []]


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


def test_row_is_noisy_by_what_it_is_read_for(
    limits: Limits, peer: Callable[[float, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """lowbit, the probe and the fastest peer; a slower one is marked alone."""
    peer(1.0, "fast")
    peer(1.0, "slow")
    calm, wild = [1.0, 1.0, 1.0], [1.0, 2.0, 3.0]

    def row(**of: list[float]) -> products.Row:
        given = {"lowbit": calm, "fast": calm, "slow": [9.0, 9.0, 9.0], "probe": calm} | of
        monkeypatch.setattr(microbench, "interleaved", lambda calls, *_: {name: given[name] for name in calls})
        return rows(limits, "fast", "slow", m=(1,))[0]

    assert not row().noisy
    slow = row(slow=[9.0, 18.0, 27.0])
    assert not slow.noisy
    assert [e.noisy for e in slow.entries] == [False, False, True]
    for name in ("lowbit", "fast", "probe"):
        assert row(**{name: wild}).noisy, name
        assert row(**{name: wild}).spread == pytest.approx(0.5), name


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
        (row,) = rows(limits, "torch_linear", "torch_ops", weight=weight, m=(17,))
        assert {e.name for e in row.entries} >= {"lowbit", "torch F.linear bf16", *names}, row.refused


def test_weights_rotate(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row reads the weight from memory: calls of adjacent turns have different codes, and what leads a turn has
    those of the turn before."""
    seen = []
    gemm = ops.gemm
    monkeypatch.setattr(ops, "gemm", lambda x, codes, *a, **k: seen.append(codes.data_ptr()) or gemm(x, codes, *a, **k))
    monkeypatch.setattr(microbench, "SPREAD", float("inf"))  # one try
    rows(limits, m=(1,))
    timed, leads = [seen[1], *seen[3::2]], seen[2::2]
    assert len(timed) > 3
    assert all(a != b for a, b in pairwise(timed))
    assert leads == timed[:-1]


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
    monkeypatch.setattr(peers, "FILES", ("torch_linear",))
    monkeypatch.setattr(products.PeerCache.__init__, "__defaults__", (("torch_linear",),))
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


def test_effort_follows_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(run.time, "perf_counter", lambda: now[0])
    pace = run.Pace(100.0, [1.0, 3.0, 6.0])
    assert pace.effort() == 1.0, "nothing is known yet"
    now[0] = 20.0
    pace.done(1.0, 1.0, 20.0)  # the rest would take 180 s, and 80 are left
    assert pace.effort() == pytest.approx(80 / 180)
    now[0] = 45.0
    pace.done(3.0, 80 / 180, 25.0)
    needed = 6.0 * 45.0 / (1.0 + 3.0 * 80 / 180)
    assert pace.effort() == pytest.approx(55 / needed)
    now[0] = 99.0
    assert pace.effort() == run.LEAST_EFFORT
    pace.done(6.0, 0.2, 1.0)
    assert pace.effort() == 1.0, "what is measured again has no rest before it"


def test_effort_shortens_a_row(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, float, int, float]] = []
    sampled = microbench.sampled

    def watch(calls: Any, rounds: int, seconds: float, tries: int, most: float, judged: Any, lead: Any) -> Any:
        asked.append((rounds, seconds, tries, most))
        return sampled(calls, rounds, 0.0, tries, most, judged, lead)

    monkeypatch.setattr(microbench, "sampled", watch)
    case, dense = cases.Product(32, 64, "int4:g32", ("int8:row",), (3, 17)), torch.randn(32, 64)
    for effort in (1.0, 0.5, 0.1):
        list(products.measure(case, dense, limits, 1, products.PeerCache(()), effort, probe_bytes=4096))  # type: ignore[arg-type]
    assert asked == [
        (9, 0.5, 2, 0.5), (5, 0.5, 2, 0.5), (4, 0.25, 1, 0.25), (3, 0.25, 1, 0.25), (3, 0.05, 1, 0.05),
        (3, 0.05, 1, 0.05),
    ]  # fmt: skip


def test_noisy_rows_are_measured_again_at_the_end(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row once more, of which the calmer one stays, where its list had it."""
    order: list[str] = []

    def task(name: str, *spreads: float) -> run.Task:
        left = list(spreads)

        def measure(effort: float) -> list[run.Measured]:
            order.append(name)
            spread = left.pop(0)
            return [run.Measured({"op": name, "spread": spread, "noisy": spread > 0.15}), run.Measured({
                "op": f"{name} calm", "spread": 0.01 * len(order), "noisy": False})]  # fmt: skip

        return run.Task("transforms", name, 1, 1.0, measure)

    todo = [task("a", 0.3, 0.2), task("b", 0.1), task("c", 0.2, 0.4)]
    monkeypatch.setattr(run, "tasks", lambda *_: iter(todo))
    result = run.run(False, 10, (1,), limits)  # type: ignore[arg-type]
    assert order == ["a", "b", "c", "a", "c"]
    assert [(r["op"], r["spread"]) for r in result["transforms"]] == [
        ("a", 0.2), ("a calm", 0.01), ("b", 0.1), ("b calm", 0.02), ("c", 0.2), ("c calm", 0.03)
    ]  # fmt: skip
    assert result["transforms"][0]["noisy"], "what did not settle stays marked"


def test_every_shape_is_measured_before_the_largest_selection() -> None:
    """Whatever time is left, no shape is without rows; and each is measured with every number of threads."""
    listed = [task for task in run.tasks(False, Limits({}), (1, 2)) if task.kind == "products"]  # type: ignore[arg-type]
    shapes = list(dict.fromkeys(task.name.split(" int")[0].split(" bip")[0] for task in listed if "g128" in task.name))
    assert shapes[-1] == "4096 x 4096"
    assert {t.threads for t in listed} == {1, 2}
    ahead = sum(t.cost for t in listed if not t.name.startswith("4096 x 4096"))
    assert ahead < sum(t.cost for t in listed) / 2


def test_more_threads_stand_beside_one(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    result = json.loads(json.dumps(suite(limits, monkeypatch, 10)))
    assert "of 1 thread" not in tables.products(result)
    first = result["products"][0]
    twice = json.loads(json.dumps(first)) | {"threads": 2}
    tables.own(twice)["us"] = tables.own(first)["us"] / 1.93
    alone = json.loads(json.dumps(twice)) | {"m": 77}
    result["products"] += [twice, alone]
    shown = tables.products(result)
    assert shown.count("| of 1 thread |") == 1
    assert '"Of 1 thread": how many times as fast' in shown
    assert "| 1.93 |" in shown
    assert next(line for line in shown.splitlines() if "| 77 |" in line).count("| - |") >= 1


def test_result_files_are_named_after_machines() -> None:
    assert run.machine_name("Intel(R) Xeon(R) Processor @ 2.1", 2) == "intel-xeon-2-1-2t"
    assert run.machine_name("AMD EPYC", 1) == "amd-epyc-1t"
