"""Installs the peers that the package index has into an environment of its own: `make bench-peers`.

    python bench/peers/install.py build/peers

The environment sees the packages of the interpreter that makes it (torch above all, which must stay the same one), and
pip is held to that torch. A package that does not install is named and left out; missing.json beside the environment
keeps the names and why for the results. Building from source may take BUILD_SECONDS.
"""

import json
import site
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

# onnx writes the models that onnxruntime reads
ZENTORCH = f"zentorch=={'.'.join(version('torch').split('.')[:2])}.*"  # built for one torch
PACKAGES = ("onnxruntime", "onnx", "openvino", "bitsandbytes", "torchao", ZENTORCH)
# built from source against the numpy and pybind11 of the environment; their build files do not name what they need
FROM_SOURCE = ("ffht-unofficial",)
BUILD_SECONDS = 900
# peers of the field that this suite does not call
NO_ADAPTER = {"llama.cpp": "no adapter", "ik_llama.cpp": "no adapter"}


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


def install(python: Path, package: str, constraints: Path) -> str | None:
    """Why it did not install; None: it did."""
    command = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q", "-c", constraints, package]
    if package in FROM_SOURCE:
        command.insert(-1, "--no-build-isolation")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS)
    except subprocess.TimeoutExpired:
        return f"took more than {BUILD_SECONDS} s to build"
    if done.returncode == 0:
        return None
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return (errors or done.stderr.splitlines() or ["pip failed"])[-1]


def main() -> None:
    folder = Path(sys.argv[1])
    python = create(folder)
    constraints = folder / "constraints.txt"
    constraints.write_text(f"torch=={version('torch')}\nnumpy=={version('numpy')}\n")
    missing = dict(NO_ADAPTER)
    for package in sys.argv[2:] or (*PACKAGES, *FROM_SOURCE):
        why = install(python, package, constraints)
        print(f"{package}: {'installed' if why is None else f'not installed: {why}'}", flush=True)
        if why is not None:
            missing[package] = why
    (folder / "missing.json").write_text(json.dumps(missing, indent=1) + "\n")


if __name__ == "__main__":
    main()
