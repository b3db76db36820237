"""The command `lowbit`, as people and machines call it."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny
import torch
from lowbit import checkpoint, comparison, demo, evaluation, ops, recipes
from lowbit_cli import commands, main

INTERRUPTED = 130
ROW = {"recipe", "bits", "bytes", "perplexity", "prefill_tok_s", "decode_tok_s"}
TEXT = "It was a bright cold day in April, and the clocks were striking thirteen. " * 40


# of processes that are started here
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@dataclass
class Result:
    status: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def lowbit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs the command in this process, on one thread, with the speeds of one short round."""
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setattr(evaluation, "ROUNDS", 1)
    monkeypatch.setattr(evaluation, "GENERATED", 3)
    before = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Result(int(ended.value.code or 0), captured.out, captured.err)

    yield run
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("command", ["quantize", "eval", "bench", "info"])
def test_help_tells_each_option(lowbit: Run, command: str) -> None:
    result = lowbit(command, "--help")
    assert result.status == 0
    assert result.out.startswith(f"Usage: lowbit {command} ")
    for option in commands.cli.commands[command].params:
        if option.param_type_name == "option":
            assert option.help or option.name == "help", option.name
            assert option.opts[0] in result.out


def test_help_lists_the_commands(lowbit: Run) -> None:
    result = lowbit("--help")
    assert result.status == 0
    assert re.findall(r"^  (\w+)  +\S", result.out.partition("Commands:")[2], re.MULTILINE) == [
        "bench",
        "eval",
        "info",
        "quantize",
    ]


@pytest.mark.parametrize("arguments", [["--help"], ["quantize", "--help"], ["--version"], ["frobnicate"]])
def test_what_needs_no_kernel_does_not_wait_for_torch(arguments: list[str]) -> None:
    script = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('torch' in sys.modules))\n"
        "from lowbit_cli import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


@pytest.mark.parametrize("module", ["click", "torch", "lowbit.display"])
def test_interrupt_during_an_import(module: str) -> None:
    """Ctrl-C while the command's modules are loaded, early and late."""
    script = (
        "import os, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from lowbit_cli import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, "info"], capture_output=True, text=True, env=ENVIRONMENT)
    assert (done.returncode, done.stdout) == (INTERRUPTED, "")
    assert done.stderr.strip() == "lowbit: interrupted; nothing half-written is left"


def test_info(lowbit: Run) -> None:
    known = json.loads(lowbit("info", "--json").out)
    assert known["isa"] in known["isas"]
    assert [r["name"] for r in known["recipes"]] == recipes.names()
    shown = lowbit("info").out
    assert all(name in shown for name in recipes.names())


def test_eval_prints_rows_and_nothing_else(lowbit: Run, model: Path, text: Path) -> None:
    result = lowbit("eval", "--model", model, "--text", text, "--tokens", 600, "--recipe", "w8a8", "--json")
    assert result.status == 0, result.err
    rows = json.loads(result.out)["rows"]
    assert [row["recipe"] for row in rows] == ["fp32", "w8a8"]
    assert all(row.keys() >= ROW for row in rows)
    assert rows[0]["bits"] == 32
    assert 8 < rows[1]["bits"] < 10
    assert rows[1]["bytes"] < rows[0]["bytes"] / 3
    assert abs(rows[1]["perplexity"] / rows[0]["perplexity"] - 1) < 0.02
    assert all(row["prefill_tok_s"] > 0 and row["decode_tok_s"] > 0 for row in rows)


def test_eval_prints_a_table_for_people(lowbit: Run, model: Path, text: Path) -> None:
    result = lowbit("eval", "--model", model, "--text", text, "--tokens", 600, "--recipe", "bf16")
    assert result.status == 0, result.err
    lines = result.out.splitlines()
    assert "perplexity" in lines[1]
    assert sum("fp32 " in line for line in lines[2:]) == 1
    assert sum("bf16 " in line for line in lines[2:]) == 1


def test_eval_without_arguments_is_the_demo(lowbit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(comparison.Subject, "load", staticmethod(lambda source, **_: asked.append(source) or Tiny()))
    monkeypatch.setattr(comparison, "compare", lambda subject, names, **_: asked.append(names) or [])
    assert json.loads(lowbit("eval", "--json").out) == {"rows": []}
    assert asked == [None, demo.RECIPES]
    assert len([name for name in demo.RECIPES if name in recipes.names()]) >= 10


class Tiny:
    is_quantized = False


def test_quantized_model_is_the_same_in_a_new_process(lowbit: Run, model: Path, text: Path, tmp_path: Path) -> None:
    """Quantized, written, read by another process: the same perplexity to the last digit."""
    recipe = "w4a16-gptq-g64"
    options = ["--text", str(text), "--tokens", "600", "--json"]
    here = lowbit("eval", "--model", model, "--recipe", recipe, "--calibration", text, *options)
    report = lowbit("quantize", model, "--recipe", recipe, "--calibration", text, "--out", tmp_path / "q", "--json")
    assert json.loads(report.out)["recipe"] == recipe
    command = [sys.executable, "-m", "lowbit_cli", "eval", "--model", str(tmp_path / "q"), *options]
    there = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert there.returncode == 0, there.stderr
    before, after = json.loads(here.out)["rows"][1], json.loads(there.stdout)["rows"][0]
    assert after["recipe"] == recipe
    for key in ("perplexity", "bits"):
        assert before[key] == after[key]


def test_quantized_model_takes_no_recipe(lowbit: Run, model: Path, tmp_path: Path) -> None:
    assert lowbit("quantize", model, "--recipe", "w8a16", "--out", tmp_path / "q").status == 0
    result = lowbit("eval", "--model", tmp_path / "q", "--recipe", "w8a8")
    assert result.status == commands.ERROR
    assert "--model must not be quantized where recipes are given" in result.err


def test_bench_times_and_checks(lowbit: Run, tmp_path: Path) -> None:
    out = tmp_path / "times.json"
    shape, weight = "2x64x96", "int4:g32"
    result = lowbit(
        "bench", "--shape", shape, "--weight", weight, "--activation", "bf16", "--rounds", 2, "--out", out, "--json"
    )
    assert result.status == 0, result.err
    printed = json.loads(result.out)
    assert printed == json.loads(out.read_text())
    (row,) = printed["rows"]
    assert (row["weight"], row["activation"], row["m"], row["n"], row["k"]) == (f"{weight}@tile16", "bf16", 2, 64, 96)
    assert abs(row["to_linear"] - row["linear_fp32_us"] / row["us"]) < 1e-3 * row["to_linear"]
    assert printed["machine"].keys() >= {"processor", "isa", "threads", "torch", "compiler", "commit", "read_gb_s"}


def test_bench_refuses_a_wrong_kernel(lowbit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    gemm = ops.gemm
    monkeypatch.setattr(ops, "gemm", lambda *a, **k: gemm(*a, **k) * 1.1)
    result = lowbit("bench", "--shape", "2x64x96", "--weight", "int4:g32", "--activation", "fp32")
    assert result.status == commands.ERROR
    assert "must be right to be timed, got a relative error of 0.1" in result.err


ERRORS = [
    (["frobnicate"], "No such command 'frobnicate'"),
    (["eval", "--frobnicate"], "No such option"),
    (["eval", "--recipe", "w4a16-g46"], 'did you mean "w4a16-g64"?'),
    (["eval", "--text", "/nowhere/text"], "does not exist"),
    (["eval", "--model", "/nowhere/model"], "/nowhere/model"),
    (["quantize", "demo", "--recipe", "w4a16-gtpq-g64", "--out", "x"], 'did you mean "w4a16-gptq-g64"?'),
    (["quantize", "demo", "--out", "x"], "Missing option '--recipe'"),
    (["quantize", "/nowhere/model", "--recipe", "w8a8", "--out", "x"], "/nowhere/model"),
    (["bench", "--shape", "1x2"], "must be MxNxK"),
    (["bench", "--shape", "1x64x64", "--weight", "int44:g64"], "int4"),
    (["bench", "--threads", "0"], "--threads"),
]


@pytest.mark.parametrize(("arguments", "sentence"), ERRORS, ids=lambda value: None)
def test_errors_are_one_sentence(
    lowbit: Run, arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = lowbit(*arguments)
    assert result.status == commands.ERROR
    assert result.out == ""
    (line,) = [line for line in result.err.splitlines() if line.startswith("Error: ")]
    assert sentence in line
    assert list(tmp_path.iterdir()) == []


def test_short_texts_are_refused(lowbit: Run, model: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("too short")
    result = lowbit("eval", "--model", model, "--text", short)
    assert result.status == commands.ERROR
    assert f"text must hold at least {33 * evaluation.WINDOW} tokens (33 windows of 512), got 9" in result.err
    out = tmp_path / "q"
    result = lowbit("quantize", model, "--recipe", "w4a16-gptq-g64", "--calibration", short, "--out", out)
    assert result.status == commands.ERROR
    assert "calibration must have at least" in result.err
    assert not out.exists()


def test_text_must_be_text(lowbit: Run, model: Path, tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"abc\xff\xfe")
    result = lowbit("eval", "--model", model, "--text", binary)
    assert result.status == commands.ERROR
    assert "must be UTF-8, got byte 0xff at 3" in result.err


def test_folder_with_other_files_is_refused(lowbit: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = lowbit("quantize", model, "--recipe", "w8a16", "--out", tmp_path)
    assert result.status == commands.ERROR
    assert "folder must be new, empty or a checkpoint" in result.err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_full_disk(lowbit: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, "save", fail)
    result = lowbit("quantize", model, "--recipe", "w8a16", "--out", tmp_path / "q")
    assert result.status == commands.ERROR
    assert "No space left on device" in result.err


@pytest.mark.parametrize(
    ("module", "function", "call"), [("quantization", "_quantize_linears", 2), ("checkpoint", "_write", 1)]
)
def test_interrupt_leaves_nothing_half_written(
    model: Path, text: Path, tmp_path: Path, module: str, function: str, call: int
) -> None:
    script = (
        "import os, signal\n"
        f"from lowbit import {module}\n"
        f"original, left = {module}.{function}, {call}\n"
        "def interrupted(*a, **k):\n"
        "    global left\n"
        "    left -= 1\n"
        "    if left == 0:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return original(*a, **k)\n"
        f"{module}.{function} = interrupted\n"
        "from lowbit_cli import main; main()\n"
    )
    out = tmp_path / "q"
    arguments = ["quantize", str(model), "--recipe", "w4a16-gptq-g64", "--calibration", str(text), "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == INTERRUPTED, done.stderr
    assert "interrupted" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_interrupt_keeps_the_old_model(model: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "q"
    command = [sys.executable, "-m", "lowbit_cli", "quantize", str(model), "--out", str(out)]
    subprocess.run([*command, "--recipe", "w8a16"], check=True, capture_output=True, env=ENVIRONMENT)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    script = (
        "import os, signal\n"
        "from lowbit import checkpoint\n"
        "checkpoint.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        "from lowbit_cli import main; main()\n"
    )
    again = [sys.executable, "-c", script, *command[3:], "--recipe", "w4a16-g64"]
    assert subprocess.run(again, capture_output=True, env=ENVIRONMENT).returncode == INTERRUPTED
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
