"""The time of a cold build of each native part, every one into an empty folder: the package's library for CPUs, the
emulator, the CUDA kernels for every architecture; and of the latter the seconds of each file, which jobs share.

python bench/build_time.py [--archs "80;89;90;120f"] [--jobs N] [--parts cpu emulator cuda]
    [--out bench/results/build.json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

from emu import toolchain  # noqa: E402
from emulator import commit, processor  # noqa: E402

TARGETS = {"cpu": "lowbit_python", "emulator": "emu", "cuda": "lowbit_cuda"}


def options(part: str, folder: str, archs: str) -> list[str]:
    """Of CMake. The emulator's build leaves the instruction sets of CPUs out."""
    chosen = toolchain.options(Path(folder))
    if part != "cpu":
        return [*chosen, f"-DLOWBIT_CUDA_ARCHS={archs}"]
    import pybind11

    return [
        *chosen, "-DLOWBIT_EMU=OFF", "-DLOWBIT_CUDA=OFF", f"-DLOWBIT_PYBIND11={pybind11.get_include()}",
        f"-DLOWBIT_PYTHON_INCLUDE={sysconfig.get_path('include')}",
    ]  # fmt: skip


def seconds_of_files(folder: Path) -> dict[str, float]:
    """From the log of ninja, the longest first: begin and end in milliseconds, time of the file, path, hash."""
    rows = [line.split("\t") for line in (folder / ".ninja_log").read_text().splitlines() if line[:1] != "#"]
    found = {path.removesuffix(".o"): (int(end) - int(begin)) / 1000 for begin, end, _, path, _ in rows}
    sources = {n: s for n, s in found.items() if n.endswith((".cu", ".cpp")) and not Path(n).is_absolute()}
    return dict(sorted(sources.items(), key=lambda item: -item[1]))


def measure(part: str, jobs: int, archs: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        cmake = toolchain.program("cmake", "CMAKE_BIN_DIR")
        subprocess.run([cmake, "-S", str(ROOT), "-B", folder, "-G", "Ninja", *options(part, folder, archs)], check=True)
        # ccache, where it is set up, would not be cold
        command = [cmake, "--build", folder, "-j", str(jobs), "--target", TARGETS[part]]
        begin = time.perf_counter()
        subprocess.run(command, check=True, env=os.environ | {"CCACHE_DISABLE": "1"})
        seconds = time.perf_counter() - begin
        files = seconds_of_files(Path(folder))
    print(f"{part}: {seconds:.1f} s with {jobs} jobs")
    return {"seconds": round(seconds, 1), "files": {name: round(s, 1) for name, s in files.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", default="80;89;90;120f")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers that run at once")
    parser.add_argument("--parts", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "build.json")
    given = parser.parse_args()
    result = {
        "machine": processor(), "commit": commit(), "nvcc": toolchain.version(toolchain.nvcc()), "jobs": given.jobs,
        "archs": given.archs.split(";"),
        "parts": {part: measure(part, given.jobs, given.archs) for part in given.parts},
    }  # fmt: skip
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
