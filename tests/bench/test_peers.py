"""What the suite asks of the libraries it compares with: what they offer, which are missing, ggml by its functions."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lowbit import microbench

import peers  # isort: skip
import products  # isort: skip
from peers import ggml  # isort: skip

GGML = ("llama_cpp", "ik_llama_cpp")


@pytest.fixture
def offers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Puts a peer into place that has weights of some widths, and lists the widths that were asked of it."""

    def put(name: str, *widths: int) -> list[int]:
        asked: list[int] = []

        def candidates(problem: peers.Problem) -> Iterator[peers.Candidate]:
            asked.append(problem.bits)
            if problem.bits in widths:
                dense = problem.dense
                yield peers.Candidate(
                    f"{name} {problem.bits}", "fp32", dense, 1, lambda x: lambda _: F.linear(x, dense)
                )

        module = ModuleType(f"peers.{name}")
        module.candidates = candidates  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"peers.{name}", module)
        return asked

    return put


def test_the_next_wider_weight_serves_a_width_that_a_library_lacks(offers: Callable[..., list[int]]) -> None:
    asked = offers("some", 4, 8)
    found = peers.collect(peers.Problem(torch.zeros(4, 4), 3, 0, 1), "some")
    assert [c.name for c in found.candidates] == ["some 4"]
    assert (asked, found.narrowest, found.bits) == ([3, 4], 3, 4)
    offers("none")
    nothing = peers.collect(peers.Problem(torch.zeros(4, 4), 6, 0, 1), "none")
    assert (nothing.candidates, nothing.missing, nothing.bits) == ([], {}, 6)
    assert not peers.collect(peers.Problem(torch.zeros(4, 4), 2, 0, 1), "some").candidates, "that is too wide"


def test_each_library_is_asked_once_for_weights_that_it_serves_alike(offers: Callable[..., list[int]]) -> None:
    few, many = offers("few", 4, 8), offers("many", 2, 3, 4, 5, 6, 8)
    cache, dense = products.PeerCache(("few", "many")), torch.zeros(4, 4)
    names = []
    for weight in ("int2:g64", "int3:g64", "int4:g64", "int5:g64", "int7:g64", "int8:g64"):
        names.append([c.name for found in cache.get(dense, weight, 1) for c in found.candidates])
    assert names[0] == ["many 2"]
    assert names[1] == ["few 4", "many 3"]
    assert names[4] == names[5] == ["few 8", "many 8"]
    assert few == [2, 3, 3, 4, 5, 6, 7, 8]
    assert many == [2, 3, 4, 5, 7, 8]
    cache.get(dense, "int8:g32", 1)
    cache.get(dense, "int8:g32", 2)
    assert few[8:] == [8, 8], "another group or number of threads is another weight"


def test_missing_is_what_does_not_import(offers: Callable[..., list[int]]) -> None:
    """Whatever an installer wrote down when it ran."""
    offers("there")
    offers("broken")
    sys.modules["peers.there"].library = lambda: None  # type: ignore[attr-defined]

    def library() -> Any:
        raise ImportError("libfoo.so: cannot open\nshared object")

    sys.modules["peers.broken"].library = library  # type: ignore[attr-defined]
    found = peers.missing(("there", "broken", "not_there"))
    assert found == {
        "broken": "ImportError: libfoo.so: cannot open",
        "not_there": "ModuleNotFoundError: No module named 'peers.not_there'",
    }
    named = peers.missing()
    for file in peers.FILES + peers.TRANSFORMS:
        assert hasattr(sys.modules[f"peers.{file}"], "library")
        library = {"torch_linear": "torch", "torch_ops": "torch"}.get(file, file)
        assert file in named or importlib.util.find_spec(library) is not None, file


def test_library_that_fails_while_it_prepares_is_named(offers: Callable[..., list[int]]) -> None:
    offers("fails")

    def fail(problem: peers.Problem) -> Any:
        raise RuntimeError("could not create\na primitive")

    sys.modules["peers.fails"].candidates = fail  # type: ignore[attr-defined]
    problem = peers.Problem(torch.zeros(4, 4), 4, 0, 1)
    assert peers.collect(problem, "fails").missing == {"fails": "RuntimeError: could not create"}
    absent = peers.collect(problem, "not_there")
    assert absent.missing == {"not_there": "ModuleNotFoundError: No module named 'peers.not_there'"}


def test_code_that_faults_is_asked_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = SimpleNamespace(returncode=-11, stderr="")
    monkeypatch.setattr(ggml.subprocess, "run", lambda *_, **__: ended)
    ggml.fault.cache_clear()
    assert ggml.fault("some", "AMX", (2,)) == "a product ends the process with signal 11"
    ended.returncode, ended.stderr = 1, "Traceback\nNameError: x"
    assert ggml.fault("some", "AMX", (3,)) == "NameError: x"
    ended.returncode = 0
    assert ggml.fault("some", "AMX", (4,)) == ""
    monkeypatch.setattr(ggml.subprocess, "run", None)
    assert ggml.fault("some", ggml.PLAIN, (2,)) == ""
    ggml.fault.cache_clear()


def test_rows_are_repeated_to_the_size_of_a_weight() -> None:
    rows = torch.arange(6).reshape(3, 2)
    assert torch.equal(ggml.repeated(rows, 7), rows[[0, 1, 2, 0, 1, 2, 0]])
    assert torch.equal(ggml.repeated(rows, 2), rows[:2])


@pytest.mark.parametrize("file", GGML)
def test_products_of_ggml_are_right(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every type of the table, at one row and some, with the weight that the candidate says, from every copy."""
    module = importlib.import_module(f"peers.{file}")
    if importlib.util.find_spec(file) is None:
        with pytest.raises(ModuleNotFoundError, match=file):
            module.library()
        pytest.skip(f"{file} is not installed; `make bench-peers` installs it where it runs")
    monkeypatch.setattr(microbench, "cache_bytes", lambda: 0)
    dense = torch.randn(64, 512, generator=torch.Generator().manual_seed(0))
    seen = []
    for bits, types in module.TYPES.items():
        for candidate in module.candidates(peers.Problem(dense, bits, 0, 1)):
            seen.append(candidate.name)
            assert candidate.bytes * 8 / dense.numel() < bits + 1.5, candidate.name
            for m in (1, 5):
                x = torch.randn(m, 512, generator=torch.Generator().manual_seed(m))
                try:
                    call = candidate.bind(x)
                except RuntimeError:
                    assert ggml.fault.cache_info().currsize, "only what was seen to fault is refused"
                    continue
                want = F.linear(x, candidate.dense)
                for turn in range(peers.copy_count()):
                    error = microbench.relative_error(call(turn), want)
                    assert error < microbench.WRONG, (candidate.name, m, turn)
        assert all(any(kind.name in name for name in seen) for kind in types), bits
    odd = list(module.candidates(peers.Problem(dense[:, :480].contiguous(), 4, 0, 1)))
    assert odd, "blocks of 32 fit where those of 256 do not"
    assert not any("_K" in candidate.name for candidate in odd)
