"""How calls take turns, and what of their times counts."""

from collections.abc import Callable

import pytest
from lowbit import microbench
from lowbit.microbench import Sample


def test_calls_take_turns_in_both_orders() -> None:
    order: list[str] = []
    calls = {name: lambda turn, name=name: order.append(name) for name in "abc"}
    times = microbench.interleaved(calls, 2)
    assert "".join(order) == "abccbaabc"
    assert {name: len(t) for name, t in times.items()} == {"a": 2, "b": 2, "c": 2}


def test_a_turn_that_does_not_count_leads_each() -> None:
    order: list[tuple[str, int]] = []
    calls = {name: lambda turn, name=name: order.append((name, turn)) for name in "ab"}
    times = microbench.interleaved(calls, 1, lead="a")
    assert order == [("a", 0), ("b", 0), ("b", 1), ("a", 0), ("a", 1)]
    assert {name: len(t) for name, t in times.items()} == {"a": 1, "b": 1}


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


def test_spread_of_calls_that_nobody_reads_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = [{"a": [5.0, 5.0, 5.1], "slow": [10.0, 20.0, 30.0]}, {"a": [6.0, 6.0, 6.0], "slow": [9.0, 9.0, 9.0]}]
    monkeypatch.setattr(microbench, "interleaved", lambda *_: tries.pop(0))
    samples = microbench.sampled({}, 3, judged=lambda samples: [min(samples, key=lambda n: samples[n].median)])
    assert samples["a"].median == 5.0
    assert samples["slow"].noisy, "and it is marked"


def test_slow_calls_take_fewer_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(microbench.time, "perf_counter", lambda: now[0])

    def call(seconds: float) -> Callable[[int], None]:
        return lambda turn: now.__setitem__(0, now[0] + seconds)

    calls = {"quick": call(0.1), "slow": call(2.0)}
    times = microbench.interleaved(calls, 9, most=1.0)
    assert {name: len(t) for name, t in times.items()} == {"quick": 9, "slow": microbench.FEWEST}
