"""The rules of the tree: who may include whom, where intrinsics stand, what every kernel family has."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
PYTHON = ROOT / "python" / "lowbit"

# downwards only: a layer includes those before it and itself
LAYERS = ("formats", "common", "ref", "cpu", "cuda", "torch")
APART = (("cuda", "cpu"),)  # side by side: the first does not include the second
EMULATOR = CSRC / "emu"  # beside the layers: a library of its own that knows common alone
FAMILIES = ("quantize", "stochastic_round", "hadamard", "bitplane_gemm", "dequant_gemm", "scaled_gemm")
FRONT_DOORS = ("gemm", "grouped_gemm")  # ops that choose among families: no arithmetic and so no reference of their own


def cpp(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix in (".h", ".cpp", ".def", ".cuh", ".cu"))


def python_files(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)


def code(path: Path) -> str:
    """A C++ file without its comments and strings."""
    text = re.sub(r'"(\\.|[^"\\\n])*"', '""', path.read_text())
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def imports(path: Path) -> set[str]:
    """Every module that a Python file names in an import, at any depth of the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def under(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_layers_are_known() -> None:
    assert sorted(p.name for p in CSRC.iterdir() if p.is_dir()) == sorted([*LAYERS, EMULATOR.name])


def test_emulator_stands_alone() -> None:
    """It includes itself and Status; nothing includes it; it knows no kernel of the library."""
    for path in cpp(EMULATOR):
        bad = [i for i in includes(path) if (CSRC / i).exists() and not i.startswith("emu/")]
        bad = [i for i in bad if i != "common/status.h"]
        assert not bad, f"{under(path)} includes {bad}"
        named = re.search(rf"\blowbit_\w+|\b({'|'.join(FAMILIES)})\b", code(path))
        assert named is None, f"{under(path)}: {named and named.group()}"
    for layer in LAYERS:
        for path in cpp(CSRC / layer):
            bad = [i for i in includes(path) if i.startswith("emu/")]
            assert not bad, f"{under(path)} includes {bad}"


@pytest.mark.parametrize("layer", LAYERS)
def test_includes_point_downwards(layer: str) -> None:
    rank = LAYERS.index(layer)
    for path in cpp(CSRC / layer):
        for included in includes(path):
            if (CSRC / included).exists():
                other = included.split("/")[0]
                assert LAYERS.index(other) <= rank, f"{under(path)} includes {included}"
                assert (layer, other) not in APART, f"{under(path)} includes {included}"
            else:
                foreign = included.split("/")[0] in LAYERS and not included.startswith("torch/")
                assert not foreign, f"{under(path)} includes {included}, which does not exist"


@pytest.mark.parametrize("layer", LAYERS[:-1])
def test_no_torch_below_its_binding(layer: str) -> None:
    for path in cpp(CSRC / layer):
        bad = [i for i in includes(path) if re.match(r"(torch|ATen|c10|caffe2|pybind11)/|Python\.h", i)]
        assert not bad, f"{under(path)} includes {bad}"


def test_op_library_is_free_of_python() -> None:
    for path in cpp(CSRC / "torch"):
        bad = [i for i in includes(path) if i.startswith("pybind11/") or i == "Python.h"]
        assert path.name == "module.cpp" or not bad, f"{under(path)} includes {bad}"
        unstable = [i for i in includes(path) if re.match(r"ATen/|c10/|torch/(?!csrc/(stable|inductor)|headeronly)", i)]
        unstable = [i for i in unstable if not (CSRC / i).exists()]
        assert not unstable, f"{under(path)} includes {unstable}, outside torch's stable ABI"


def test_intrinsics_stand_in_isa_folders_only() -> None:
    intrinsics = re.compile(r"\b_mm\d*_\w+|\b__m(128|256|512)\w*|\b(x86|imm|arm_neon)intrin\.h|\basm\b|__asm__")
    isa_folders = [p for p in (CSRC / "cpu").iterdir() if p.is_dir()]
    assert isa_folders
    isa_folders.append(CSRC / "cuda" / "ptx")
    for path in cpp(CSRC):
        if not any(folder in path.parents for folder in isa_folders):
            text, headers = code(path), [i for i in includes(path) if "intrin" in i]
            if EMULATOR in path.parents:  # sets the rounding direction around an instruction
                text = re.sub(r'_mm_[gs]etcsr|asm volatile\("" ::: "\w*"\)', "", text)
                headers = [i for i in headers if i != "xmmintrin.h"]
            found = intrinsics.search(text) or headers
            assert not found, f"{under(path)}: {found}"


def test_isa_code_has_a_namespace_of_its_own() -> None:
    """Code that two instruction sets compile may not be merged: it lives in the namespace that its row of
    CMakeLists.txt names. A header without code only chooses among those of the folders."""
    for folder in (p for p in (CSRC / "cpu").iterdir() if p.is_dir()):
        for path in cpp(folder):
            own = re.search(rf"namespace lowbit::(LOWBIT_ISA_NAMESPACE|{folder.name}) {{", path.read_text())
            only_chooses = not re.search(r"[;}]", code(path))
            declares_all = path.relative_to(CSRC).as_posix() == "cpu/simd/kernels.h"
            assert own or only_chooses or declares_all, under(path)


def test_isa_flags_stand_in_isa_rows_only() -> None:
    for line in (ROOT / "CMakeLists.txt").read_text().splitlines():
        if re.search(r"-m(avx|fma|gfni|f16c|bmi|sse|arch|cpu|tune)", line):
            assert line.startswith("lowbit_isa("), line
    assert not re.search(r"-m(avx|arch)|-O\d", (ROOT / "setup.py").read_text())


@pytest.mark.parametrize("layer", LAYERS[:-1])
def test_libraries_return_status(layer: str) -> None:
    """Nothing below the binding throws, prints or ends the process."""
    bad = re.compile(
        r"\bthrow\b|\b(std::)?(abort|exit|terminate|printf|fprintf|puts)\s*\(|std::c(out|err)\b|\bassert\s*\("
    )
    for path in cpp(CSRC / layer):
        found = bad.search(code(path))
        assert found is None, f"{under(path)}: {found and found.group()}"


def test_threads_come_from_parallel() -> None:
    for path in (p for layer in LAYERS for p in cpp(CSRC / layer)):
        found = re.search(r"#pragma\s+omp|std::(jthread|thread|async)\b|pthread_create", code(path))
        assert found is None, f"{under(path)}: {found and found.group()}"


@pytest.mark.parametrize("family", FAMILIES)
def test_family_has_reference(family: str) -> None:
    for name in (f"{family}.h", f"{family}.cpp"):
        assert (CSRC / "ref" / name).is_file(), name


def test_device_code_of_one_instruction_stands_in_ptx() -> None:
    """A wrapper of csrc/cuda/ptx is one instruction with its types, so one asm each; nothing else has any."""
    for path in cpp(CSRC / "cuda"):
        statements = re.findall(r"\basm\b[^;]*", code(path))
        assert not statements or path.parent.name == "ptx", f"{under(path)}: {statements}"


@pytest.mark.parametrize("family", FAMILIES)
def test_family_has_its_cuda_parts(family: str) -> None:
    assert (CSRC / "cuda" / f"{family}.h").is_file(), "launcher"
    assert any((CSRC / "cuda" / f"{family}.{suffix}").is_file() for suffix in ("cu", "cpp")), "kernel"
    assert f'#include "cuda/{family}.h"' in (CSRC / "torch" / "backend_cuda.cpp").read_text(), "entry of the table"
    assert (ROOT / "tests" / "cuda" / f"test_{family}.py").is_file(), "test"
    rows = (ROOT / "tests" / "cuda" / "sass.py").read_text()
    # the three products share the kernels of gemm.h
    assert re.search(rf'^    "({family}|{family.partition("_")[2] or family})": \(', rows, re.MULTILINE), "machine code"


@pytest.mark.parametrize("family", [*FAMILIES, *FRONT_DOORS])
def test_family_has_every_part(family: str) -> None:
    schema = (CSRC / "torch" / "schema.cpp").read_text()
    assert re.search(rf'm\.def\(\s*"{family}[("]', schema) or re.search(rf'"{family}" LOWBIT_', schema), "schema"
    assert (CSRC / "torch" / f"{family}.cpp").is_file(), "binding"
    op = PYTHON / "ops" / f"{family}.py"
    assert op.is_file(), "Python function"
    assert f'register_fake("lowbit::{family}")' in op.read_text(), "fake"
    named = list((ROOT / "tests").rglob(f"test_{family}*.py"))
    called = [p for p in python_files(ROOT / "tests") if re.search(rf"\b{family}\(", p.read_text())]
    assert named or (called and family in FRONT_DOORS), "tests"


def test_ops_are_all_in_python() -> None:
    schema = (CSRC / "torch" / "schema.cpp").read_text()
    defined = set(re.findall(r'm\.def\(\s*"(\w+)', schema))
    tree = ast.parse((PYTHON / "ops" / "__init__.py").read_text())
    listed = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"
    )
    assert defined == set(listed)


def test_oracle_imports_nothing_of_lowbit() -> None:
    files = python_files(ROOT / "tests" / "oracle")
    assert files
    for path in files:
        bad = {name for name in imports(path) if name.split(".")[0] in ("lowbit", "torch")}
        assert not bad, f"{under(path)} imports {bad}"


def test_methods_are_functions_of_tensors() -> None:
    """A method knows tensors and formats: no modules, no models, no other user of methods."""
    above = ("nn", "quantization", "checkpoint", "integrations", "recipes", "comparison", "demo", "evaluation")
    files = python_files(PYTHON / "algorithms")
    assert files
    for path in files:
        bad = {name for name in imports(path) if name.startswith(tuple(f"lowbit.{module}" for module in above))}
        assert not bad, f"{under(path)} imports {bad}"


def test_lower_python_does_not_know_what_stands_on_it() -> None:
    ranks = (
        ("ops", "spec", "library", "capabilities"),
        ("tensor", "config"),
        ("nn", "algorithms", "recipes"),
        ("quantization", "checkpoint", "accounting"),
        ("integrations",),
        ("evaluation", "microbench", "predict", "text", "display"),
        ("comparison", "demo"),
    )
    rank = {name: i for i, names in enumerate(ranks) for name in names}
    # functions of these reach upwards on purpose, inside a function body only
    for path in python_files(PYTHON):
        own = path.relative_to(PYTHON).parts[0].removesuffix(".py")
        tree = ast.parse(path.read_text())
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lowbit."):
                other = node.module.split(".")[1]
                if own in rank and other in rank:
                    assert rank[other] <= rank[own], f"{under(path)} imports {node.module}"


def test_command_imports_the_package_in_functions_alone() -> None:
    """Importing anything of lowbit imports torch."""
    for path in python_files(ROOT / "python" / "lowbit_cli"):
        for node in ast.parse(path.read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [n for n in names if n.split(".")[0] in ("lowbit", "torch")], f"{under(path)}: {names}"


def test_files_are_short() -> None:
    """One subject a file: at most 800 lines for kernels and their blocking, 450 elsewhere."""
    kernels = {CSRC / "cpu", CSRC / "cuda"}
    for path in [*cpp(CSRC), *python_files(PYTHON, ROOT / "tests", ROOT / "bench", ROOT / "examples")]:
        lines, most = len(path.read_text().splitlines()), 800 if kernels & set(path.parents) else 450
        assert lines <= most, f"{under(path)} has {lines} lines"


def test_files_are_named_by_what_they_hold() -> None:
    for path in [*cpp(CSRC), *python_files(PYTHON, ROOT / "tests")]:
        assert not re.search(r"util|helper|misc", path.stem), under(path)


def test_nothing_is_left_unfinished() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX)\b|#\s*if\s+0\b|raise NotImplementedError|not built\"")
    for path in [*cpp(CSRC), *python_files(PYTHON)]:
        found = marks.search(path.read_text())
        assert found is None, f"{under(path)}: {found and found.group()}"


def test_no_test_is_skipped_silently() -> None:
    for path in python_files(ROOT / "tests"):
        found = re.search(r"importorskip|mark\.(skip|xfail)\b|pytest\.xfail", path.read_text())
        assert found is None or path == Path(__file__).resolve(), f"{under(path)}: {found and found.group()}"


def test_environment_variables_are_in_the_table() -> None:
    table = (ROOT / "HACKING.md").read_text()
    used = set()
    for path in [*cpp(CSRC), *python_files(PYTHON), ROOT / "setup.py"]:
        used |= set(re.findall(r'(?:getenv\(|environ(?:\.get\(|\[))\s*"(\w+)"', path.read_text()))
    assert "LOWBIT_ISA" in used
    for name in sorted(used):
        assert f"`{name}`" in table, f"{name} is not in HACKING.md"


def test_a_format_is_defined_once() -> None:
    """The NF4 table, the longest row, stands in no other file of the library."""
    for path in [*cpp(CSRC), *python_files(PYTHON)]:
        assert ("0.6961928" in path.read_text()) == (path.name == "formats.def"), under(path)
