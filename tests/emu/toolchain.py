"""What the tests of the emulator are built with: the emulator itself by CMake, CUDA sources by nvcc. Both are made when
first asked for, under build/, and again only when what they were made from has changed."""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "emu"
EMULATOR = BUILD / "emu" / "libcudart.so.13"
TOOLKIT = "cuda-toolkit[nvcc,cudart,cccl,crt]==13.0.*"
CUTLASS = "nvidia-cutlass==4.2.*"


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """One process at a time: pytest runs several."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / f"{name}.lock").open("w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def _show(command: list[str]) -> None:
    """_run with the output where a person sees it."""
    subprocess.run(command, check=True)


def program(name: str, package_folder: str) -> str:
    """cmake or ninja: what the environment variable says, else the one that pip installed, else that of the PATH."""
    given = os.environ.get(name.upper())
    if given:
        return given
    try:
        return str(Path(getattr(importlib.import_module(name), package_folder)) / name)
    except (ImportError, AttributeError):
        found = shutil.which(name)
        if found is None:
            raise RuntimeError(f"{name} must be installed to build the emulator; pip install {name}") from None
        return found


def options(output: Path) -> list[str]:
    """Of CMake, for a build of the emulator and of the CUDA kernels, whose libraries go to `output`."""
    return [
        f"-DCMAKE_MAKE_PROGRAM={program('ninja', 'BIN_DIR')}",
        "-DLOWBIT_EMU=ON",
        "-DLOWBIT_CUDA=ON",
        f"-DLOWBIT_NVCC={nvcc()}",
        f"-DLOWBIT_OUTPUT={output}",
        f"-DLOWBIT_TORCH={_package_folder('torch') or ''}",
    ]


def _build(*targets: str, run: Callable[[list[str]], None] = _run) -> None:
    """Targets of one build folder, which has one configuration for all of them. It is configured when an option has
    changed; CMake does so by itself when a CMakeLists.txt or the list of files has."""
    chosen = options(BUILD)
    if archs := os.environ.get("LOWBIT_CUDA_ARCHS"):
        chosen.append(f"-DLOWBIT_CUDA_ARCHS={archs}")
    with _locked("cmake"):
        cmake, configured = program("cmake", "CMAKE_BIN_DIR"), BUILD / "options.txt"
        text = "\n".join([cmake, *chosen])
        if not configured.exists() or configured.read_text() != text:
            configured.unlink(missing_ok=True)
            run([cmake, "-S", str(ROOT), "-B", str(BUILD), "-G", "Ninja", *chosen])
            configured.write_text(text)
        jobs = os.environ.get("MAX_JOBS", str(os.cpu_count() or 1))
        run([cmake, "--build", str(BUILD), "-j", jobs, "--target", *targets])


def _given_or_built(variable: str, file: Path, target: str) -> Path:
    if given := os.environ.get(variable):
        return Path(given)
    _build(target)
    return file


@cache
def build_emulator() -> Path:
    """The library that stands in for libcudart.so.13."""
    return _given_or_built("LOWBIT_EMU_LIBRARY", EMULATOR, "emu")


@cache
def build_cuda_kernels() -> Path:
    """The CUDA kernels with their C entry points, for the architectures of LOWBIT_CUDA_ARCHS or the default ones."""
    return _given_or_built("LOWBIT_CUDA_KERNELS", BUILD / "_cuda_kernels.so", "lowbit_cuda_kernels")


@cache
def build_emulated_ops() -> Path:
    """The ops of the namespace lowbit_emu: the CUDA binding for CPU tensors on an emulated device."""
    return _given_or_built("LOWBIT_EMULATED_OPS", BUILD / "_emulated.so", "lowbit_emulated_ops")


def _package_folder(package: str) -> Path | None:
    """Where a package lies, namespace packages included."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _install(requirement: str) -> None:
    _run([sys.executable, "-m", "pip", "--disable-pip-version-check", "install", requirement])
    importlib.invalidate_caches()


def _nvcc_of_wheel() -> Path | None:
    folder = _package_folder("nvidia")
    compiler = folder / "cu13" / "bin" / "nvcc" if folder is not None else None
    return compiler if compiler is not None and compiler.exists() else None


@cache
def nvcc() -> str:
    """nvcc 13 of the PATH, or of the toolkit's wheels, which are installed where there are none."""
    found = shutil.which("nvcc")
    if found is not None and "release 13." in _banner(found):
        return found
    with _locked("pip"):
        if _nvcc_of_wheel() is None:
            _install(TOOLKIT)
    compiler = _nvcc_of_wheel()
    if compiler is None:
        raise RuntimeError(f"nvcc must be in {TOOLKIT}, got none")
    return str(compiler)


@cache
def cutlass_include() -> Path:
    """The headers in the wheel nvidia-cutlass."""
    with _locked("pip"):
        if _package_folder("cutlass_library") is None:
            _install(CUTLASS)
    folder = _package_folder("cutlass_library")
    if folder is None:
        raise RuntimeError(f"cutlass_library must be in {CUTLASS}, got none")
    return folder / "source" / "include"


def _link_flags(compiler: str) -> list[str]:
    """The wheels bring libcudart.so.13 without the name that the linker looks for; nothing here calls kernels from
    kernels."""
    runtime = Path(compiler).resolve().parent.parent / "lib" / "libcudart.so.13"
    flags = ["--cudadevrt", "none"]
    if not runtime.exists() or runtime.with_name("libcudart.so").exists():
        return flags
    name = BUILD / "toolkit" / "libcudart.so"
    with _locked("toolkit"):
        name.parent.mkdir(parents=True, exist_ok=True)
        if not name.exists():
            name.unlink(missing_ok=True)  # a link to a toolkit that is gone
            name.symlink_to(runtime)
    return [*flags, f"-L{name.parent}"]


def _banner(compiler: str) -> str:
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout


def version(compiler: str) -> str:
    """As "13.0.88"."""
    return _banner(compiler).rpartition(", V")[2].split()[0]


def compile_cuda(
    source: Path,
    *,
    archs: Iterable[str] = ("80",),
    flags: Iterable[str] = (),
    include: Iterable[Path] = (),
    depends: Iterable[Path] = (),
    machine_code: bool = False,
) -> Path:
    """A shared object of one .cu with its PTX embedded; `machine_code` adds what ptxas makes of it (register counts).
    It is made again when the source, a file of `depends`, a flag or the compiler changes."""
    compiler = nvcc()
    command = ["-std=c++17", "-O3", "-fmad=false", "--cudart", "shared", "--compress-mode=none"]
    command += ["-Xcompiler", "-fPIC", "-shared", *flags, *(f"-I{folder}" for folder in include)]
    for arch in archs:
        code = f"[sm_{arch},compute_{arch}]" if machine_code else f"compute_{arch}"
        command += ["-gencode", f"arch=compute_{arch},code={code}"]
    digest = hashlib.sha256()
    for text in (_banner(compiler), " ".join(command), *(p.read_text() for p in (source, *depends))):
        digest.update(text.encode() + b"\0")
    target = BUILD / "cuda" / f"{source.stem}-{digest.hexdigest()[:16]}.so"
    if not target.exists():
        with _locked(target.stem):
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                fresh = target.with_suffix(f".{os.getpid()}.so")
                _run([compiler, *command, *_link_flags(compiler), str(source), "-o", str(fresh)])
                fresh.replace(target)
    return target


def main() -> None:
    """Builds all that the tests ask for, with what the compilers say in sight."""
    _build("emu", "lowbit_cuda_kernels", "lowbit_emulated_ops", run=_show)
    cutlass_include()


if __name__ == "__main__":
    main()
