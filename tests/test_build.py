"""The package as pip builds it, and the commands around it."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
TORCH = Path(torch.__file__).parent

# stands in for cmake: notes how it was called and makes files where the libraries would be
CMAKE = """#!{python}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
calls = here / "calls.json"
seen = json.loads(calls.read_text()) if calls.exists() else []
calls.write_text(json.dumps(seen + [sys.argv[1:]]))
cache = here / "cache.json"
if "--build" not in sys.argv:
    cache.write_text(json.dumps(dict(a[2:].split("=", 1) for a in sys.argv if a.startswith("-DLOWBIT_"))))
else:
    options = json.loads(cache.read_text())
    folder = pathlib.Path(options["LOWBIT_OUTPUT"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "_ops.so").write_bytes(b"ops")
    (folder / ("_C" + options["LOWBIT_PYTHON_SUFFIX"])).write_bytes(b"module")
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the build reads, with a stand-in for cmake in `stand-in/`."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "setup.py", "CMakeLists.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "python", copy / "python", ignore=ignored)
    cmake = copy / "stand-in" / "cmake"
    cmake.parent.mkdir()
    cmake.write_text(CMAKE.format(python=sys.executable))
    cmake.chmod(0o755)
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path) -> zipfile.ZipFile:
    """The wheel of that copy, made without compiling."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        "-w",
        "dist",
        ".",
    ]
    environment = {**os.environ, "CMAKE": str(tree / "stand-in" / "cmake"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tree / "dist").glob("lowbit-*.whl")
    return zipfile.ZipFile(path)


def test_wheel_holds_both_libraries_and_every_module(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert "lowbit/_ops.so" in names
    assert any(re.fullmatch(r"lowbit/_C\..*\.so", name) for name in names)
    assert "lowbit/py.typed" in names
    modules = {str(p.relative_to(ROOT / "python")) for p in (ROOT / "python").rglob("*.py")}
    assert modules <= names
    assert not [n for n in names if n.split("/")[0] not in ("lowbit", "lowbit_cli") and ".dist-info/" not in n]


def test_wheel_asks_for_no_torch(wheel: zipfile.ZipFile) -> None:
    """torch is the one that is installed; a requirement could bring a second."""
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(wheel.read(name).decode())
    assert metadata["Name"] == "lowbit"
    assert metadata["Requires-Python"] == ">=3.10"
    always = [r for r in metadata.get_all("Requires-Dist") if "extra ==" not in r]
    assert always
    assert not [r for r in always if re.match(r"torch|nvidia|triton", r)]


def test_wheel_has_the_command(wheel: zipfile.ZipFile) -> None:
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/entry_points.txt"))
    assert "lowbit = lowbit_cli:main" in wheel.read(name).decode()


def test_build_takes_the_installed_torch(wheel: zipfile.ZipFile, tree: Path) -> None:
    calls = json.loads((tree / "stand-in" / "calls.json").read_text())
    assert len(calls) == 2, "one configuration, one build"
    assert f"-DLOWBIT_TORCH={TORCH}" in calls[0]


def from_setup_py(expression: str, **environment: str) -> str:
    """What an expression gives with the names of setup.py, in a process of its own."""
    script = (
        "import setuptools\n"
        "from pathlib import Path\n"
        "setuptools.setup = lambda **_: None\n"
        f"scope = {{'__file__': {str(ROOT / 'setup.py')!r}, '__name__': 'setup', 'Path': Path}}\n"
        "exec(compile(Path(scope['__file__']).read_text(), 'setup.py', 'exec'), scope)\n"
        f"print(eval({expression!r}, scope))\n"
    )
    kept = {name: value for name, value in os.environ.items() if name != "LOWBIT_CUDA"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**kept, **environment}
    )
    return done.stdout.strip()


def test_cuda_is_built_only_where_torch_has_it(tmp_path: Path) -> None:
    """An nvcc on the PATH is not enough: kernels of minutes would be built that this torch cannot call."""
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\n")
    nvcc.chmod(0o755)
    path = f"{nvcc.parent}{os.pathsep}{os.environ['PATH']}"
    torch_folder = tmp_path / "torch"
    (torch_folder / "lib").mkdir(parents=True)
    option = f"cuda_option(Path({str(torch_folder)!r}))"
    assert from_setup_py(option, PATH=path) == "OFF"
    assert from_setup_py(option, PATH=path, LOWBIT_CUDA="ON") == "ON"
    (torch_folder / "lib" / "libtorch_cuda.so").touch()
    assert from_setup_py(option, PATH=path) == "AUTO"
    assert from_setup_py(option, PATH=path, LOWBIT_CUDA="OFF") == "OFF"


def test_build_says_what_it_does_about_cuda(wheel: zipfile.ZipFile, tree: Path) -> None:
    configured = json.loads((tree / "stand-in" / "calls.json").read_text())[0]
    has_cuda = (TORCH / "lib" / "libtorch_cuda.so").exists()
    assert f"-DLOWBIT_CUDA={'AUTO' if has_cuda else 'OFF'}" in configured


@pytest.mark.parametrize(("goal", "emulated"), [("demo", False), ("build", False), ("test", True)])
def test_the_emulator_is_built_for_tests_alone(goal: str, emulated: bool) -> None:
    printed = subprocess.run(["make", "-B", "-n", goal], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ("emu.toolchain" in printed) == emulated


def test_build_without_torch_says_what_to_do(tmp_path: Path) -> None:
    script = (
        "import importlib.util, setuptools, sys, sysconfig\n"
        f"sysconfig.get_path = lambda name: {str(tmp_path)!r}\n"
        "importlib.util.find_spec = lambda name: None\n"
        "setuptools.setup = lambda **_: None\n"
        f"source = open({str(ROOT / 'setup.py')!r}).read()\n"
        f"scope = {{'__file__': {str(ROOT / 'setup.py')!r}, '__name__': 'setup'}}\n"
        "exec(compile(source, 'setup.py', 'exec'), scope)\n"
        "scope['torch_folder']()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().startswith("lowbit: torch must be installed where lowbit is built, got none in")
    assert done.stderr.strip().endswith("install it first, for instance: pip install torch")


def test_commands_are_there() -> None:
    """CI runs the command that a person runs, and every command that the documents name is there."""
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("exec make test")
    for name in ("demo", "test", "build", "emulated", "lint", "fmt", "bench", "bench-peers", "gpu-check", "clean"):
        assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), re.MULTILINE), name


@pytest.mark.parametrize(
    ("script", "document"), [("docs/formats.py", "docs/formats.md"), ("bench/report.py", "docs/numbers.md")]
)
def test_printed_documents_are_current(script: str, document: str) -> None:
    printed = subprocess.run([sys.executable, ROOT / script], capture_output=True, text=True, check=True)
    assert printed.stdout == (ROOT / document).read_text(), "run make docs"
