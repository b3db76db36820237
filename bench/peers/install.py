"""Installs the peers that the package index has into an environment of its own: `make bench-peers`.

    python bench/peers/install.py build/peers [name ...]

The environment sees the packages of the interpreter that makes it (torch above all, which must stay the same one), and
pip is held to that torch. A package that does not install is named with the reason and left out; the suite asks by
itself what imports. Building from source may take BUILD_SECONDS.
"""

import os
import site
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

BUILD_SECONDS = 3600


@dataclass(frozen=True)
class Package:
    """requirement: what pip is asked for. options, environment: of pip, and of the build."""

    requirement: str
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def native(name: str, *flags: str) -> Package:
    """A library of ggml, built for the processor at hand. gcc 12.2
    drops the stores of a tile configuration before AMX reads it, unless it is told to drop none."""
    arguments = ("-DGGML_NATIVE=ON", '-DCMAKE_CXX_FLAGS="-fno-tree-dse -fno-dse"', *flags)
    environment = {"CMAKE_ARGS": " ".join(arguments), "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1)}
    return Package(name, ("--no-binary", name), environment)


PACKAGES = (
    Package("onnxruntime"),
    Package("onnx"),  # writes the models that onnxruntime reads
    Package("openvino"),
    Package("bitsandbytes"),
    Package("torchao"),
    Package(f"zentorch=={'.'.join(version('torch').split('.')[:2])}.*"),  # built for one torch
    # its build file does not name the numpy and pybind11 that it needs: those of the environment
    Package("ffht-unofficial", ("--no-build-isolation",)),
    native("llama-cpp-python", "-DLLAVA_BUILD=OFF", "-DLLAMA_BUILD_COMMON=OFF"),
    # built for AVX2; its source in the index lacks a file of the build
    Package("ik-llama-cpp-python"),
)


def create(folder: Path) -> Path:
    """The interpreter of an environment that has the packages of this one below its own."""
    if not (folder / "bin" / "python").is_file():
        venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    own = subprocess.run(
        [python, "-c", "import site; print(site.getsitepackages()[0])"], check=True, capture_output=True, text=True
    )
    # addsitedir, unlike a bare path, also reads the .pth files there: lowbit is an editable install
    lines = "".join(f"import site; site.addsitedir({p!r})\n" for p in site.getsitepackages())
    (Path(own.stdout.strip()) / "below.pth").write_text(lines)
    return python


def install(python: Path, package: Package, constraints: Path) -> str | None:
    """Why it did not install; None: it did."""
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q", "-c", constraints]
    try:
        done = subprocess.run(
            [*pip, *package.options, package.requirement], env=os.environ | package.environment, capture_output=True,
            text=True, timeout=BUILD_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"took more than {BUILD_SECONDS} s to build"
    if done.returncode == 0:
        return None
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return (errors or done.stderr.splitlines() or ["pip failed"])[-1]


def main() -> None:
    folder, *names = sys.argv[1:]
    python = create(Path(folder))
    constraints = Path(folder) / "constraints.txt"
    constraints.write_text(f"torch=={version('torch')}\nnumpy=={version('numpy')}\n")
    for package in PACKAGES:
        if names and package.requirement not in names:
            continue
        why = install(python, package, constraints)
        print(f"{package.requirement}: {'installed' if why is None else f'not installed: {why}'}", flush=True)


if __name__ == "__main__":
    main()
