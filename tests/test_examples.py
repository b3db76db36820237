"""The examples run as a user runs them, and do what they say."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

FOLDER = Path(__file__).parent.parent / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(path: Path) -> str:
    done = subprocess.run([sys.executable, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_example_runs(path: Path) -> None:
    assert run(path)


def test_linear_of_another_package() -> None:
    """4-bit codes of a group of uniform weights lie at most half a step off: a step is 1/7 of the largest, so the
    relative error is 1/7 / sqrt(12) / (1/sqrt(3)) = 0.07 of the weights, and the output's alike."""
    error = float(re.search(r"relative error of the output: ([\d.]+)", run(FOLDER / "linear.py"))[1])
    assert 0.03 < error < 0.1


@pytest.fixture
def linear() -> nn.Linear:
    torch.manual_seed(0)
    layer = nn.Linear(576, 96)
    with torch.no_grad():
        layer.weight[:, ::97] *= 8
    return layer


def test_engine_linear_is_a_drop_in(linear: nn.Linear):
    example = load("engine_linear")
    layer = example.EngineLinear(linear)
    x = torch.randn(2, 3, 576, generator=torch.Generator().manual_seed(1))
    # a weight is off by at most half a step of amax / 7; the rest of the bound covers the rounding of both sums
    steps = linear.weight.detach().reshape(96, 9, 64).abs().amax(-1, keepdim=True) / 7
    half = (steps / 2).expand(96, 9, 64).reshape(96, 576)
    bound = x.abs() @ half.t() * (1 + 2**-12) + 2**-12 * (x.abs() @ linear.weight.detach().abs().t() + 1)
    assert ((layer(x) - linear(x)).abs() <= bound).all()
    assert layer(x[:, :0]).shape == (2, 0, 96)
    for dtype in (torch.bfloat16, torch.float16):
        assert layer(x.to(dtype)).dtype == dtype


def test_rotation_lowers_the_error_of_narrow_activations(linear: nn.Linear):
    example = load("engine_linear")
    x = torch.randn(64, 576, generator=torch.Generator().manual_seed(1))
    x[:, ::97] *= 8
    rotated = example.RotatedLinear(linear, x_format="int4")
    plain = example.EngineLinear(linear)

    class Unrotated(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ops.lowbit.gemm(x, plain.w, plain.scale, None, plain.format, x_format="int4", bias=plain.bias)

    assert example.error(rotated, linear, x) < 0.8 * example.error(Unrotated(), linear, x)
    assert example.error(example.RotatedLinear(linear), linear, x) < example.error(rotated, linear, x)


def test_readme_calls_run() -> None:
    """The call from another package stands on the README's first screen: it runs as it stands."""
    readme = (Path(__file__).resolve().parent.parent / "README.md").read_text()
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "torch.ops.lowbit.gemm" in b)
    scope: dict[str, object] = {}
    exec(block, scope)
    assert scope["y"].shape == (3, 4096)  # type: ignore[attr-defined]
    screen = "\n".join(readme.splitlines()[:40])
    assert all(words in screen for words in ("make demo", "make test", "torch.ops.lowbit.gemm"))
