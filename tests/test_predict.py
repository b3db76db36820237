"""Predictions without the emulator: what is said, and that a figure never passes for a measured one."""

import io
import json
from pathlib import Path

import pytest
from lowbit import display, predict
from lowbit_cli import commands
from rich.console import Console

ROW = predict.Prediction(
    m=1, n=64, k=128, weight="int4:g64", activation="bf16", arch="sm_80", board="a board", kernels=("gemm",), us=1.5,
    bound="global", thread_instructions=1000, tensor={"m16n8k16": 32}, least_bytes=5000, sector_bytes=6000,
    unrated=(),
)  # fmt: skip


def test_a_missing_emulator_names_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LOWBIT_EMU_LIBRARY", raising=False)
    with pytest.raises(FileNotFoundError, match=r"got no .*libcudart\.so\.13; run it from a source tree"):
        predict.Emulator(tmp_path)


def test_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict.emulator.cache_clear()
    monkeypatch.setenv("LOWBIT_EMU_LIBRARY", str(tmp_path / "none.so"))
    assert commands.run(["bench", "--predict", "--shape", "1x64x128"]) == commands.ERROR
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: bench: --predict must have the emulator, which a wheel does not bring")


def test_an_architecture_alone_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["bench", "--arch", "80"]) == commands.ERROR
    assert "--arch must come with --predict" in capsys.readouterr().err


def test_every_figure_is_labelled_predicted() -> None:
    assert json.loads(json.dumps(ROW.to_dict()))["predicted"] is True
    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(display.predictions_table([ROW]))
    shown = console.export_text()
    assert "predicted from counts and published rates, not measured" in shown
    assert "predicted us" in shown
    assert "gemm" in shown


def test_an_op_alone_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["bench", "--op", "pack"]) == commands.ERROR
    assert "--op must come with --predict" in capsys.readouterr().err


def test_parts_of_ops() -> None:
    weights, activations = ["int4:g64", "int8:row"], ["bf16", "int8:row", "fp32"]
    assert len(predict.parts(["gemm"], weights, activations)) == 6
    assert predict.parts(["hadamard"], weights, activations) == [("hadamard", "", "bf16"), ("hadamard", "", "fp32")]
    assert predict.parts(["pack"], weights, activations) == [("pack", w, "") for w in weights]
    assert len(predict.parts(["quantize", "dequantize"], weights, activations)) == 8


@pytest.mark.parametrize(
    ("mangled", "name"),
    [
        ("_ZN6lowbit4cuda11gemm_narrowINS0_10Int8EngineELi0EEEvNS0_10GemmParamsE", "gemm_narrow"),
        ("_ZN6lowbit4cuda44_GLOBAL__N__816d84d3_11_quantize_cu_db33fbd410by_threadsINS0_8IntCoderEEEvi", "by_threads"),
        ("plain", "plain"),
    ],
)
def test_kernels_are_named_by_their_own_part(mangled: str, name: str) -> None:
    assert predict._name(mangled) == name
