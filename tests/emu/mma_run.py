"""Kernels of tests/emu/mma run on matrices of codes, and operands that are hard to add."""

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from emu import emulator
from emu.mma_reference import FORMATS, Format, matrix_of, words_of
from emu.toolchain import ROOT

HERE = Path(__file__).parent / "mma"
sys.path.insert(0, str(HERE))
import write_ptx  # noqa: E402

VARIANTS = {(v[0], v[1]): v for v in write_ptx.variants()}
BITS = {
    "b1": 1,
    "s4": 4,
    "s8": 8,
    "f16": 16,
    "bf16": 16,
    "tf32": 32,
    "f64": 64,
    "f8": 8,
    "f8f6f4": 8,
    "mxf8f6f4": 8,
    "mxf4": 4,
}
ARCH = {"sm_80": "80", "sm_89": "89", "sm_90": "90", "sm_120f": "120f"}
CASES = 6


def family(file):
    return file.split("_")[1]


def rows_of(file):
    return int(file[1 : file.index("n")])


def k_of(file):
    return int(file.split("_")[0].split("k")[1])


def parse(text):
    """{(name, matrix): array [lane][value][2]} of lines "name matrix row,col row,col ..."."""
    out = {}
    for line in text.splitlines():
        name, matrix, *cells = line.split()
        pairs = np.array([[int(x) for x in c.split(",")] for c in cells])
        out[name, matrix] = pairs.reshape(32, -1, 2) if len(pairs) % 32 == 0 else pairs
    return out


def compile_and_run(source, include, arguments, folder):
    program = folder / source.stem
    compiler = os.environ.get("CXX") or shutil.which("g++") or "c++"
    command = [compiler, "-std=c++17", "-w", *(f"-I{i}" for i in include), str(source), "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return parse(subprocess.run([str(program), *arguments], check=True, capture_output=True, text=True).stdout)


@cache
def own_layouts():
    """{(file, matrix): cells} of csrc/emu/exec/mma_layout.h; "file:half" has f16 accumulators."""
    arguments = []
    for (file, _), (_, _, _, _, a, b, c, wide, _) in VARIANTS.items():
        parts = 1 if wide else 32 // BITS[family(file)]
        half = c == 2 and rows_of(file) == 16
        name = f"{file}:half" if half else file
        arguments += [name, str(rows_of(file)), str(parts), str(a), str(b), str(c), str(int(half))]
    with tempfile.TemporaryDirectory() as folder:
        return compile_and_run(HERE / "own_layouts.cpp", [ROOT / "csrc"], arguments, Path(folder))


class Run:
    """Fragments of one variant from matrices [case][row][col] of codes, and back."""

    def __init__(self, file, entry):
        layouts = own_layouts()
        _, _, self.target, _, self.a, self.b, self.c, self.wide, self.scaled = VARIANTS[file, entry]
        self.file, self.entry, self.bits = file, entry, BITS[family(file)]
        self.parts = 1 if self.wide else 32 // self.bits
        self.half = self.c == 2 and rows_of(file) == 16
        self.cells = {x: layouts[f"{file}:half" if self.half else file, x] for x in "abc"}
        self.type = np.uint64 if self.wide else np.uint32
        self.text = (HERE / f"{file}.ptx").read_text()

    def __call__(self, a, b, c, *scales, **settings):
        """`b` as n x k. Scales: registers of A and B as [case][lane], byte and thread ids."""
        cases, m = a.shape[0], rows_of(self.file)
        accumulator = (2, 16) if self.half else (1, 64 if self.wide else 32)
        words = [
            words_of(a, self.cells["a"], self.parts, self.bits),
            words_of(b, self.cells["b"], self.parts, self.bits),
            words_of(c, self.cells["c"], *accumulator),
        ]
        settings.setdefault("arch", ARCH[self.target])
        with emulator.settings(**settings), emulator.silent():
            module = emulator.Module(self.text)
            device = [emulator.array(w.astype(self.type)) for w in words]
            if scales:
                device += [emulator.array(s.astype(np.uint32)) for s in scales[:2]]
            out = emulator.empty((cases, self.c, 32), self.type)
            module.launch(self.entry, cases, 32, out, *device, *(int(s) for s in scales[2:]))
            result = out.get()
        return matrix_of(result, self.cells["c"], *accumulator, (m, 8))


def random_codes(rng, form: Format, shape, kind):
    """Codes of `form`: "near" 1, "any" finite magnitude, "large"st, "subnormal", "special" values among near ones."""
    exponents = 1 << form.exponent
    top = exponents - 2 if form.specials == "ieee" else exponents - 1
    mantissa = rng.integers(0, 1 << form.mantissa, shape)
    near = rng.integers(max(form.bias - 2, 0), min(form.bias + 2, top) + 1, shape)
    exponent = {
        "near": near,
        "any": rng.integers(0, top + 1, shape),
        "large": np.full(shape, top),
        "subnormal": np.where(rng.random(shape) < 0.7, 0, near),
        "special": near,
    }[kind]
    magnitude = exponent << form.mantissa | mantissa
    all_ones = (1 << (form.exponent + form.mantissa)) - 1
    if form.specials == "nan":
        magnitude = np.where(magnitude == all_ones, all_ones - 1, magnitude)
    if kind == "special" and form.specials == "ieee":
        magnitude = np.where(rng.random(shape) < 0.03, (exponents - 1) << form.mantissa, magnitude)
        magnitude = np.where(rng.random(shape) < 0.01, all_ones, magnitude)
    if kind == "special" and form.specials == "nan":
        magnitude = np.where(rng.random(shape) < 0.02, all_ones, magnitude)
    magnitude = np.where(rng.random(shape) < 0.05, 0, magnitude)
    sign = rng.integers(0, 2, shape) if form.signed else 0
    return (magnitude | sign << (form.exponent + form.mantissa)) << form.shift


KINDS = ("near", "any", "large", "subnormal", "special", "near")


def float_operands(rng, form_a, form_b, accumulator, m, k):
    a = np.stack([random_codes(rng, form_a, (m, k), kind) for kind in KINDS])
    b = np.stack([random_codes(rng, form_b, (8, k), kind) for kind in KINDS])
    c = np.stack([random_codes(rng, accumulator, (m, 8), kind) for kind in KINDS])
    # cancellation: the second half of k undoes the first one, and what is left is an accumulator of any size
    sign = 1 << (form_a.exponent + form_a.mantissa + form_a.shift)
    a[5, :, k // 2 :], b[5, :, k // 2 :] = a[5, :, : k // 2] ^ sign, b[5, :, : k // 2]
    c[5] = random_codes(rng, accumulator, (m, 8), "any")
    return a, b, c


def element_formats(file, entry):
    kind = family(file)
    if kind in ("f16", "bf16", "tf32"):
        return FORMATS[kind], FORMATS[kind]
    names = entry.split("_")[:2] if kind != "mxf4" else ["e2m1", "e2m1"]
    padded = kind in ("f8f6f4", "mxf8f6f4")
    a, b = (FORMATS["e2m1_padded" if padded and n == "e2m1" else n] for n in names)
    return a, b


def positions(rng, m, count):
    """(case, row, col): all cases, some outputs of each."""
    return [(case, int(rng.integers(m)), int(rng.integers(8))) for case in range(CASES) for _ in range(count)]


def as_float(codes):
    return codes.astype(np.uint32).view(np.float32).astype(np.float64)
