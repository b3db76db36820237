"""The machine code of the CUDA kernels: what ptxas made of them, by cuobjdump, and what each must contain."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cuda import cubins

SYSTEM_SHARED = 1024  # bytes of each block
TOOLS = {"cuobjdump": "nvidia-cuda-cuobjdump==13.*", "nvdisasm": "nvidia-cuda-nvdisasm==13.*"}


@dataclass
class Kernel:
    """One kernel of one architecture."""

    name: str  # as the source has it, with template arguments: "update<FloatCoder>"
    opcodes: Counter[str]
    registers: int = 0
    shared: int = 0  # static bytes
    local: int = 0
    threads: int = 0  # of __launch_bounds__, 0: not stated

    def has(self, opcode: str) -> bool:
        """Whether there is an instruction of which `opcode` gives the name and some of its modifiers, in order."""
        parts = opcode.split(".")
        for o in self.opcodes:
            rest = iter(o.split("."))
            if all(p in rest for p in parts) and o.split(".")[0] == parts[0]:
                return True
        return False


def program(name: str) -> str:
    """A tool of the PATH, of the environment's CUDA wheels, or of its own wheel, which is then installed."""
    bundled = Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin" / name
    if not bundled.exists() and shutil.which(name) is None:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", TOOLS[name]]
        subprocess.run(command, check=True, capture_output=True)
    return str(bundled) if bundled.exists() else shutil.which(name) or name


@cache
def _demangler() -> ctypes.CDLL:
    library = ctypes.CDLL("libstdc++.so.6")
    library.__cxa_demangle.restype = ctypes.c_void_p
    return library


def name_of(mangled: str) -> str:
    """The kernel's name with its template arguments, without namespaces of the library and parameters."""
    status = ctypes.c_int()
    text = _demangler().__cxa_demangle(mangled.encode(), None, None, ctypes.byref(status))
    if not text:
        return mangled
    name = ctypes.string_at(text).decode()
    ctypes.CDLL(None).free(ctypes.c_void_p(text))
    name = name.replace("(anonymous namespace)::", "").replace("lowbit::cuda::", "").removeprefix("void ")
    depth = 0
    for i, c in enumerate(name):
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            return name[:i]
    return name


def static_shared(arch: str, told: int) -> int:
    """Bytes of a kernel's own: from sm_90 on the tools add the system's, where there are any."""
    return max(told - SYSTEM_SHARED, 0) if int(arch.rstrip("af")) >= 90 else told


def _cuobjdump(library: Path, arch: str, *options: str, folder: Path | None = None) -> str:
    command = [program("cuobjdump"), *options, "-arch", f"sm_{arch}", str(library.resolve())]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder).stdout


def extract(library: Path, arch: str, folder: Path) -> None:
    """The library's cubins of an architecture."""
    _cuobjdump(library, arch, "-xelf", "all", folder=folder)


@cache
def kernels(library: Path, arch: str) -> dict[str, Kernel]:
    """All kernels of the library for an architecture, by name."""
    with tempfile.TemporaryDirectory() as folder:
        extract(library, arch, Path(folder))
        opcodes = cubins.opcodes(program("nvdisasm"), arch, sorted(Path(folder).iterdir()))
    found: dict[str, Kernel] = {}
    for mangled, counts in opcodes.items():
        name = name_of(mangled)
        assert name not in found, f"two kernels are called {name}"
        found[name] = Kernel(name, counts)
    lines = iter(_cuobjdump(library, arch, "-res-usage").splitlines())
    for line in lines:
        if match := re.search(r"Function (\S+):", line):
            usage = dict(re.findall(r"([A-Z]+)(?:\[\d\])?:(\d+)", next(lines)))
            kernel = found[name_of(match.group(1))]
            kernel.registers, kernel.shared = int(usage["REG"]), static_shared(arch, int(usage["SHARED"]))
            kernel.local = int(usage["STACK"]) + int(usage["LOCAL"])
    return found


# shared KB, threads and blocks of a multiprocessor
LIMITS = {
    "80": (164, 2048, 32),
    "86": (100, 1536, 16),
    "89": (100, 1536, 24),
    "90": (228, 2048, 32),
    "120f": (100, 1536, 24),
}


def occupancy(kernel: Kernel, arch: str, threads: int, dynamic_shared: int = 0) -> float:
    """Resident threads over the most there can be."""
    shared_kb, most_threads, most_blocks = LIMITS[arch]
    a_warp = -(-kernel.registers * 32 // 256) * 256
    warps = -(-threads // 32)
    blocks = min(
        65536 // (a_warp * warps),
        shared_kb * 1024 // (-(-(kernel.shared + dynamic_shared) // 128) * 128 + SYSTEM_SHARED),
        most_threads // (warps * 32),
        most_blocks,
    )
    return blocks * warps * 32 / most_threads


@dataclass
class Row:
    """What a kernel must be made of, and on which architectures it is there; `never` may not be in it.

    Local memory is never allowed: neither spills nor arrays that are indexed at run time. Nor is a tensor instruction
    that the row does not ask for: where an engine is not native, ptxas makes it of several others.
    """

    kernel: str  # pattern of its whole name
    threads: int  # a block of the usual launch
    needs: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    archs: tuple[str, ...] = ("80", "89", "90", "120f")


# what multiplies on tensor cores
TENSOR = re.compile(r"[A-Z]*MMA")


def faults(kernel: Kernel, row: Row, arch: str) -> list[str]:
    found = [] if arch in row.archs else [f"is there for sm_{arch}"]
    found += [f"lacks {o}" for o in row.needs if not kernel.has(o)]
    found += [f"has {o}" for o in row.never if kernel.has(o)]
    tensor = {o.split(".")[0] for o in row.needs}
    for opcode in kernel.opcodes:
        name = opcode.split(".")[0]
        if name in ("LDL", "STL") or (TENSOR.fullmatch(name) and name not in tensor):
            found.append(f"has {opcode}")
    if kernel.local:
        found.append(f"uses {kernel.local} bytes of local memory")
    return found


CODERS = "(Int|Float|Lookup)Coder"
QUANTIZE = [
    Row(f"by_lanes<{CODERS}, (true|false)>", 256, ("LDG.E.128", "SHFL.BFLY", "PRMT", "MUFU.RCP", "FCHK")),
    Row(f"by_threads<{CODERS}, (true|false)>", 256, ("LDG.E.128", "STS.128", "LDS.128", "REDUX.MAX")),
    Row(f"with_values<{CODERS}, (true|false)>", 256, ("LDG.E.128", "PRMT")),
    Row("extents", 256, ("LDG.E.128", "REDUX.MAX")),
    Row("scales", 256, ("MUFU.RCP",)),
    Row("second_extents", 256, ("REDUX.MAX",)),
    Row("complex_codes", 256, ("LDG.E.128",)),
    Row("complex_scales", 256, ("DADD", "SHFL.IDX")),
    Row("complex_values", 256, ("STG.E.128",)),
    Row(f"dequantize<{CODERS}>", 256, ("PRMT", "STG.E.128")),
    Row("dequantize_mixed", 256, ("STG.E.128",)),
    Row("add_outliers", 256),
    Row("check_codebook", 256),
]
STOCHASTIC_ROUND = [
    Row(f"round<{CODERS}>", 256, ("LDG.E.128", "STG.E.128", "IMAD.WIDE.U32")),
    Row(f"update<{CODERS}>", 256, ("LDG.E.128", "IMAD.WIDE.U32", "PRMT")),
    Row(f"updated_extents<{CODERS}>", 256, ("LDG.E.128", "REDUX.MAX")),
]
HADAMARD = [
    Row("in_lanes<false>", 256, ("LDG.E.128", "STG.E.128", "SHFL.BFLY")),
    Row("in_lanes<true>", 256, ("LDG.E.128", "STG.E.128", "SHFL.BFLY", "HMMA.16816.F32", "HMMA.16816.F32.BF16")),
    Row("in_shared<false>", 256, ("LDG.E.128", "STG.E.128", "STS.128", "LDS.128")),
    Row("in_shared<true>", 256, ("STG.E.128", "STS.128", "LDS.128", "HMMA.16816.F32.BF16")),
    Row("in_halves<false>", 1024, ("LDG.E.128", "STG.E.128", "STS.128", "LDS.128")),
    Row("in_halves<true>", 1024, ("STG.E.128", "STS.128", "LDS.128", "HMMA.16816.F32.BF16")),
    Row("in_columns", 256),
    Row("put_signs", 256),
]
LOOPS = "gemm_(wide|narrow)"
COPIES = ("LDGSTS.E.BYPASS.128", "LDGDEPBAR")


def gemm(engine: str, bits: str, multiply: str, *, archs: tuple[str, ...] = ("80", "89", "90", "120f")) -> Row:
    """Both loops of an engine, where it is native."""
    return Row(rf"{LOOPS}<{engine}, {bits}>", 128, (multiply, *COPIES), archs=archs)


FLOAT8 = {"false": "E4M3", "true": "E5M2"}
SIGNED = {"false": "U4", "true": "S4"}
BLOCKS = [
    "QMMA.SF.16832.F32.E4M3.E4M3", "QMMA.SF.16832.F32.E4M3.E5M2", "QMMA.SF.16832.F32.E5M2.E4M3",
    "QMMA.SF.16832.F32.E5M2.E5M2", "QMMA.SF.16832.F32.E2M3.E2M3", "QMMA.SF.16832.F32.E3M2.E3M2",
    "OMMA.SF.16864.F32.E2M1.E2M1.E8", "OMMA.SF.16864.F32.E2M1.E2M1.UE4M3.4X",
]  # fmt: skip
GEMM = [
    gemm("Int8Engine", r"\d", "IMMA.16832.S8.S8"),
    gemm("FloatWeights<Int8Engine>", "4", "IMMA.16832.S8.S8"),
    gemm("FloatEngine<false>", r"\d", "HMMA.16816.F32.BF16"),
    gemm("FloatWeights<FloatEngine<false> ?>", "[468]", "HMMA.16816.F32.BF16"),
    gemm("FloatEngine<true>", r"\d", "HMMA.16816.F32"),
    gemm("FloatWeights<FloatEngine<true> ?>", "[468]", "HMMA.16816.F32"),
    *(
        gemm(f"Float8Engine<{w}, {x}>", "[08]", f"QMMA.16832.F32.{FLOAT8[w]}.{FLOAT8[x]}", archs=("89", "120f"))
        for w in FLOAT8
        for x in FLOAT8
    ),
    *(
        gemm(f"Int4Engine<{w}, {x}>", "[04]", f"IMMA.16864.{SIGNED[w]}.{SIGNED[x]}", archs=("80", "89"))
        for w in SIGNED
        for x in SIGNED
    ),
    *(
        gemm(rf"BlockScaledEngine<\(BlockScaled\){i + 1}>", "[0468]", multiply, archs=("120f",))
        for i, multiply in enumerate(BLOCKS)
    ),
    Row(r"binary_gemm<\d, [1248]>", 128, ("BMMA.168256.AND.POPC", "LDSM.16.M88.4"), archs=("80", "89", "90")),
]  # fmt: skip
STRIPES = [Row("join_stripes<(true|false)>", 128, ("LDG.E", "STG.E", "FFMA"))]
# Sides of a change of layout: 0 rows of codes, 1 mma64, 2 tile16, whose words lie apart by rows.
LAYOUTS = [
    Row("byte_rows", 256, ("LDG.E", "STG.E.128")),
    Row("copy_rows", 256, ("LDG.E.128", "STG.E.128")),
    Row("to_across", 256, ("LDG.E.128",)),
    Row("from_across", 256, ("STG.E.128",)),
    Row(r"relayout<\(Side\)[01], \(Side\)[01]>", 256, ("LDG.E.128", "STG.E.128")),
    Row(r"relayout<\(Side\)[01], \(Side\)2>", 256, ("LDG.E.128",)),
    Row(r"relayout<\(Side\)2, \(Side\)[01]>", 256, ("STG.E.128",)),
    Row(r"relayout<\(Side\)2, \(Side\)2>", 256),
    Row("shift_rows", 256, ("LDG.E.128", "STG.E.128")),
    Row("truncate_values", 256),
]
INPUT_GRAD = [
    Row("input_grad<(64|128)>", 256, ("LDG.E.128", "LDSM.16.M88.4", "LDSM.16.MT88.4", "HMMA.16816.F32.BF16")),
]
# A family's rows, and how many kernels (instances of templates) an architecture may have of it: builds stay short.
FAMILIES: dict[str, tuple[list[Row], int]] = {
    "quantize": (QUANTIZE, 31),
    "stochastic_round": (STOCHASTIC_ROUND, 9),
    "hadamard": (HADAMARD, 8),
    "gemm": (GEMM, 148),
    "gemm in stripes": (STRIPES, 2),
    "input_grad": (INPUT_GRAD, 2),
    "pack": (LAYOUTS, 14),
}
ROWS = [row for rows, _ in FAMILIES.values() for row in rows]
