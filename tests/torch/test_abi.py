"""The op library stands on the C shims of torch 2.11 alone, free of Python: one build serves every later torch."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lowbit import library

INCLUDE = Path(torch.__file__).parent / "include" / "torch" / "csrc"
# what the stable C++ headers may call, newest first
SHIMS = [
    "stable/c/shim.h",
    "inductor/aoti_torch/c/shim.h",
    "inductor/aoti_torch/c/shim_deprecated.h",
    "inductor/aoti_torch/generated/c_shim_aten.h",
]
TARGET = library.OLDEST_TORCH


def undefined(file: Path) -> set[str]:
    """The names that a library takes from others, without their versions."""
    nm = shutil.which("nm")
    assert nm is not None, "nm (binutils) must be installed to read the symbols of the op library"
    lines = subprocess.run([nm, "-D", "--undefined-only", file], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1].partition("@")[0] for line in lines.splitlines()}


def shims(text: str) -> dict[str, tuple[int, int]]:
    """Function -> the first version of torch that a header declares it for."""
    versions: list[tuple[int, int]] = [(0, 0)]
    found: dict[str, tuple[int, int]] = {}
    for line in re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S).splitlines():
        if re.match(r"\s*#\s*if", line):
            since = re.search(r"TORCH_FEATURE_VERSION\s*>=\s*TORCH_VERSION_(\d+)_(\d+)_", line)
            versions.append(max(versions[-1], (int(since[1]), int(since[2]))) if since else versions[-1])
        elif re.match(r"\s*#\s*endif", line):
            versions.pop()
        for name in re.findall(r"\b(?:aoti_)?torch_\w+(?=\s*\()", line):
            found[name] = min(found.get(name, versions[-1]), versions[-1])
    return found


def declared() -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for name in SHIMS:
        found = shims((INCLUDE / name).read_text()) | found
    return found


OPS_SYMBOLS = undefined(library.FILE)


def test_the_header_reader_sees_versions():
    text = """
      AOTIRuntimeError aoti_torch_old(int a); // torch_comment(
      #if TORCH_FEATURE_VERSION >= TORCH_VERSION_2_12_0
      #ifdef X
      void torch_new(
          int b);
      #endif
      #endif // TORCH_FEATURE_VERSION >= TORCH_VERSION_2_12_0
      void torch_plain();
    """
    assert shims(text) == {"aoti_torch_old": (0, 0), "torch_new": (2, 12), "torch_plain": (0, 0)}
    if library.torch_version(torch.__version__) >= (2, 12):
        assert max(declared().values()) > TARGET, "no newer shim was found in the headers of a newer torch"


def test_torch_symbols_are_shims_no_newer_than_the_target():
    shim = declared()
    used = {s for s in OPS_SYMBOLS if re.match(r"(aoti_)?torch_", s)}
    assert {"aoti_torch_get_data_ptr", "torch_library_impl"} <= used
    assert not used - set(shim), "not declared by the stable shims"
    assert not {s: shim[s] for s in used if shim[s] > TARGET}, f"newer than torch {TARGET}"


def test_no_cpp_symbol_of_torch_is_used():
    mangled = re.compile(r"_Z.*(3c10|2at|5torch|6caffe2)")
    assert not [s for s in OPS_SYMBOLS if mangled.match(s)]


def test_the_op_library_is_free_of_python():
    assert not [s for s in OPS_SYMBOLS if s.startswith(("Py", "_Py"))]


@pytest.mark.parametrize("flag", ["RPATH", "RUNPATH"])
def test_no_path_of_the_building_machine_is_left(flag: str):
    readelf = shutil.which("readelf")
    assert readelf is not None, "readelf (binutils) must be installed to read the op library"
    text = subprocess.run([readelf, "-d", library.FILE], capture_output=True, text=True, check=True).stdout
    assert f"({flag})" not in text


def test_it_loads_without_the_python_package():
    code = f"import torch; torch.ops.load_library({str(library.FILE)!r}); print(torch.ops.lowbit.gemm.default)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={"LD_BIND_NOW": "1"}
    )
    assert run.stdout.strip() == "lowbit.gemm.default", run.stderr
