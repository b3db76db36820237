"""The time of a cold build of the CUDA kernels: every .cu for every architecture, into an empty folder.

python bench/build_time.py [--archs "80;89;90;120f"] [--jobs N] [--out bench/results/build.json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

from emu import toolchain  # noqa: E402
from emulator import commit, processor  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", default="80;89;90;120f")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers that run at once")
    parser.add_argument("--target", default="lowbit_cuda_kernels", help="of the build folder: one object, for instance")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "build.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cmake = toolchain.program("cmake", "CMAKE_BIN_DIR")
        options = [*toolchain.options(Path(folder)), f"-DLOWBIT_CUDA_ARCHS={given.archs}"]
        subprocess.run([cmake, "-S", str(ROOT), "-B", folder, "-G", "Ninja", *options], check=True)
        begin = time.perf_counter()
        # ccache, where it is set up, would not be cold
        command = [cmake, "--build", folder, "-j", str(given.jobs), "--target", given.target]
        subprocess.run(command, check=True, env=os.environ | {"CCACHE_DISABLE": "1"})
        seconds = time.perf_counter() - begin
    result = {
        "machine": processor(), "commit": commit(), "nvcc": toolchain.version(toolchain.nvcc()), "jobs": given.jobs,
        "archs": given.archs.split(";"), "target": given.target, "seconds": round(seconds, 1),
    }  # fmt: skip
    print(f"{given.target}: {seconds:.1f} s with {given.jobs} jobs")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
