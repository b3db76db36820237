"""Builds the two libraries of lowbit with CMake; everything else about the package stands in pyproject.toml."""

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
OPS = "lowbit._ops"


def torch_folder() -> Path:
    """The installed torch: its headers and libtorch_cpu.so. Also inside pip's build isolation, where it cannot be
    imported but the environment's site-packages is known to sysconfig."""
    candidates = [Path(sysconfig.get_path(name)) / "torch" for name in ("purelib", "platlib")]
    spec = importlib.util.find_spec("torch")
    if spec is not None and spec.submodule_search_locations:
        candidates += [Path(p) for p in spec.submodule_search_locations]
    for folder in candidates:
        if (folder / "lib" / "libtorch_cpu.so").exists() and (folder / "include").is_dir():
            return folder
    sys.exit(
        "lowbit: torch must be installed where lowbit is built, got none in "
        + ", ".join(str(c.parent) for c in candidates)
        + "; install it first, for instance: pip install torch"
    )


def cuda_option(torch: Path) -> str:
    """Whether to build for CUDA: what LOWBIT_CUDA says, else where this torch has CUDA and there is an nvcc."""
    given = os.environ.get("LOWBIT_CUDA")
    return given or ("AUTO" if (torch / "lib" / "libtorch_cuda.so").exists() else "OFF")


def program(name: str) -> str:
    """cmake or ninja: what the environment variable of that name says, else that of the build's requirements (the PATH
    need not have it where the virtual environment is not activated), else that of the PATH."""
    given = os.environ.get(name.upper())
    if given:
        return given
    try:
        package = importlib.import_module(name)
        return str(Path(package.CMAKE_BIN_DIR if name == "cmake" else package.BIN_DIR) / name)
    except (ImportError, AttributeError):
        return shutil.which(name) or sys.exit(f"lowbit: {name} must be installed to build; pip install {name}")


class CMakeBuild(build_ext):
    """One CMake run makes both libraries: _ops.so (the ops, free of Python) and _C (pybind11)."""

    def get_ext_filename(self, fullname: str) -> str:
        return "lowbit/_ops.so" if fullname.endswith("_ops") else super().get_ext_filename(fullname)

    def build_extension(self, ext: Extension) -> None:
        if ext.name == OPS:
            return  # made together with _C
        import pybind11

        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = ROOT / "build" / "cmake"
        build.mkdir(parents=True, exist_ok=True)
        cmake = program("cmake")
        torch = torch_folder()
        configure = [
            cmake,
            "-S", str(ROOT),
            "-B", str(build),
            "-G", "Ninja",
            # also into an old cache, whose ninja may have gone with pip's build environment
            f"-DCMAKE_MAKE_PROGRAM={program('ninja')}",
            f"-DLOWBIT_TORCH={torch}",
            f"-DLOWBIT_CUDA={cuda_option(torch)}",
            f"-DLOWBIT_PYBIND11={pybind11.get_include()}",
            f"-DLOWBIT_PYTHON_INCLUDE={sysconfig.get_path('include')}",
            f"-DLOWBIT_PYTHON_SUFFIX={sysconfig.get_config_var('EXT_SUFFIX')}",
            f"-DLOWBIT_OUTPUT={target.parent}",
        ]  # fmt: skip
        subprocess.run(configure, check=True)
        jobs = os.environ.get("MAX_JOBS", str(os.cpu_count() or 1))
        subprocess.run([cmake, "--build", str(build), "-j", jobs], check=True)


setup(ext_modules=[Extension("lowbit._C", sources=[]), Extension(OPS, sources=[])], cmdclass={"build_ext": CMakeBuild})
