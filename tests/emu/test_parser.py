"""The parser of PTX: on what nvcc writes, on every form of the language, and on text that is wrong."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from emu.toolchain import BUILD, ROOT, cutlass_include, nvcc

SOURCES = Path(__file__).parent / "ptx"
PARSER = sorted((ROOT / "csrc" / "emu" / "ptx").glob("*.cpp"))
HEAD = ".version 9.0\n.target sm_80\n.address_size 64\n"


@cache
def built(name: str) -> Path:
    """A program of tests/emu/ptx with the sources it is about."""
    sources = [SOURCES / f"{name}.cpp", *(PARSER if name == "check_parser" else [ROOT / "csrc/emu/exec/registers.cpp"])]
    headers = sorted((ROOT / "csrc" / "emu").rglob("*.h"))
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in (*sources, *headers))).hexdigest()[:16]
    target = BUILD / f"{name}-{digest}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(f".{os.getpid()}")
        compiler = os.environ.get("CXX", "c++")
        flags = ["-std=c++17", "-O1", f"-I{ROOT / 'csrc'}"]
        subprocess.run([compiler, *flags, *map(str, sources), "-o", str(fresh)], check=True)
        fresh.replace(target)
    return target


def run(name: str, *arguments: str) -> tuple[int, str]:
    done = subprocess.run([str(built(name)), *arguments], capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, done.stdout.strip()


def compiled(name: str, arch: str, tmp_path: Path, include: Sequence[Path] = ()) -> Path:
    ptx = tmp_path / f"{name}_{arch}.ptx"
    flags = ["-std=c++17", "-ptx", f"-arch=compute_{arch}", *(f"-I{folder}" for folder in include)]
    subprocess.run([nvcc(), *flags, str(SOURCES / f"{name}.cu"), "-o", str(ptx)], check=True, capture_output=True)
    return ptx


def count_statements(text: str) -> int:
    """Statements by their looks: what stands between ';' or braces and begins like an instruction."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL)
    text = re.sub(r'"[^"\n]*"', '""', text)
    text = re.sub(r"\{[^{};]*\}(?=\s*[,;])", "V", text)  # vectors and initial values
    count = 0
    for piece in re.split(r"[;{}]", text):
        piece = re.sub(r"^(\s*[\w$%]+\s*:(?!:))+", "", piece).strip()
        count += re.match(r"(@!?[\w$%]+\s+)?[a-z]\w*(\.[\w:]+)*(\s|$)", piece) is not None
    return count


@pytest.mark.parametrize("arch", ["80", "89", "90a", "120f"])
def test_language(arch: str, tmp_path: Path) -> None:
    ptx = compiled("language", arch, tmp_path)
    code, out = run("check_parser", "parse", str(ptx))
    assert (code, out) == (0, str(count_statements(ptx.read_text())))
    assert int(out) > 150


@pytest.mark.parametrize("name", ["cub", "cutlass"])
def test_other_peoples_kernels(name: str, tmp_path: Path) -> None:
    ptx = compiled(name, "80", tmp_path, [cutlass_include()] if name == "cutlass" else [])
    code, out = run("check_parser", "parse", str(ptx))
    assert (code, out) == (0, str(count_statements(ptx.read_text())))
    assert int(out) > 2000


def names(text: str, tmp_path: Path) -> list[str]:
    file = tmp_path / "names.ptx"
    file.write_text(HEAD + text)
    code, out = run("check_parser", "names", str(file))
    assert code == 0, out
    return out.splitlines()


def test_scopes(tmp_path: Path) -> None:
    """Registers, variables and labels of nested scopes are told apart, and labels are seen before they stand."""
    body = """
    .entry k(.param .u32 n) {
      .reg .b32 a, %r<3>;
      L: mov.b32 a, 1;
      { .reg .b16 a; .param .b32 n; bra M; L: mov.b16 a, 2; bra L; st.param.b32 [n+4], %r2; M: }
      { .reg .b64 a; mov.b64 a, 3; bra L; }
      bra M; mov.b32 a, n; M:
    }
    """
    assert names(body, tmp_path) == [
        "function k",
        *("register a b32", "register %r0 b32", "register %r1 b32", "register %r2 b32"),
        *("register a#1 b16", "register a#2 b64", "variable n#1 4 4"),
        *("label L 0", "label L#1 2", "label M 9", "label M#1 5"),
        *(
            "statement mov a 1",
            "statement bra M#1",
            "statement mov a#1 2",
            "statement bra L#1",
            "statement st n#1+4 %r2",
        ),
        *("statement mov a#2 3", "statement bra L", "statement bra M", "statement mov a n"),
    ]


def test_operands(tmp_path: Path) -> None:
    body = """
    .func f() {
      .reg .b32 a, b; .reg .pred p, q;
      mov.b32 a, 0x1F; mov.b32 a, 017; mov.b32 a, 0b101; mov.b32 a, 12U;
      mov.b32 a, -2147483648; mov.b32 a, (1 << 4) + WARP_SZ;
      mov.f32 a, 0f3F800000; mov.f64 a, 0dBFF0000000000000; mov.f64 a, -1.5; mov.f64 a, 25e-2;
      ld.b32 a, [b + -8]; ld.b32 a, [f+4]; ld.b32 a, [16+4];
      setp.x p|q, a, b; shfl.x _|p, a; x.kind::mxf4nvf4.scale_vec::4X a, {a, b}, _;
    }
    """
    assert names(body, tmp_path)[5:] == [
        *("statement mov a 31", "statement mov a 15", "statement mov a 5", "statement mov a 12"),
        *("statement mov a -2147483648", "statement mov a 48"),
        *("statement mov a 3f800000", "statement mov a bff0000000000000", "statement mov a bff8000000000000"),
        *("statement mov a 3fd0000000000000", "statement ld a b+-8", "statement ld a f+4", "statement ld a 20"),
        *("statement setp p q a b", "statement shfl _ p a", "statement x a a b _"),
    ]


def test_variables(tmp_path: Path) -> None:
    text = """
    .global .align 8 .b8 a[2][3] = {{1, 2, 3}, {255, -1}};
    .const .f32 b[] = {0f3F800000, 1.5};
    .global .u64 c[3] = {generic(a)+2, a-1, 7};
    .global .u8 d[2] = {0xFF(c), 0xFF00(generic(c))};
    .global .v4 .f32 e;
    .extern .shared .align 128 .b8 f[];
    .global .b32 g[2];
    """
    one, half = "0 0 128 63", "0 0 192 63"
    zeros = " ".join("0" * 16)
    assert names(text, tmp_path) == [
        "global a 6 8 : 1 2 3 255 255",
        f"global b 8 4 : {one} {half}",
        f"global c 24 8 : {zeros} 7 0 0 0 0 0 0 0 @0/8=a+2g>>0 @8/8=a+-1>>0",
        "global d 2 1 : 0 0 @0/1=c+0>>0 @1/1=c+0g>>8",
        "global e 16 16 :",
        "global f 0 128 :",
        "global g 8 4 :",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (".entry k() { mov.b32 a, 1 }", "line 4: expected ',' or ';', got '}'"),
        (".entry k() {\n .reg .b32 a;\n mov.b32 a, ;\n}", "line 6: expected an operand, got ';'"),
        (".entry k() {\n .reg .b32 a, a;\n}", "line 5: 'a' is declared twice"),
        (".entry k() {\n ld.b32 a, [a+;\n}", "line 5: expected a constant, got ';'"),
        (".entry k() {\n @p ret;\n}", "line 5: 'p' is no predicate register"),
        (".entry k() {\n .reg .b31 a;\n}", "line 5: expected a register type, got '.b31'"),
        (".entry k() {\n .texture .b32 a;\n}", "line 5: expected a declaration or an instruction, got '.texture'"),
        (".entry k() {\n ret;", "line 5: expected '}' of 'k', got the end of the text"),
        (".entry k() .maxthreads 4 {\n ret; }", "line 4: expected a function directive, ';' or '{', got '.maxthreads'"),
        (".entry k() { mov.f32 a, 0f3F80; }", "line 4: '0f3F80' must have 8 hexadecimal digits behind 0f"),
        (".entry k() { mov.b64 a, 0x1FFFFFFFFFFFFFFFF; }", "line 4: integer '0x1FFFFFFFFFFFFFFFF' exceeds 64 bits"),
        (".entry k() { mov.b32 a, 09; }", "line 4: '09' is no number"),
        ("\n/* no end", "line 5: comment without its '*/'"),
        (".global .b32 a[1] = {1, 2};", "line 4: 'a' has more initial values than elements"),
        (".global .b32 a;\n.global .b32 a;", "line 5: 'a' is defined twice"),
        (".global .align 3 .b32 a;", "line 4: alignment 3 is no power of two"),
        (".global .b32 a[];", "line 4: 'a' has neither a size nor an initial value"),
        (".shared .b32 a = 1;", "line 4: 'a' cannot have an initial value in its space"),
        (".func f() { ret; }\n.func f() { ret; }", "line 5: 'f' is defined twice"),
        (".entry k() { ret; }\n?", "line 5: unexpected character '?'"),
        ("mov.b32 a, b;", "line 4: expected a declaration, got 'mov'"),
    ],
)
def test_errors_name_the_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.ptx"
    file.write_text(HEAD + text)
    assert run("check_parser", "parse", str(file)) == (1, message)


def test_header(tmp_path: Path) -> None:
    file = tmp_path / "wrong.ptx"
    file.write_text(HEAD.replace("64", "32"))
    assert run("check_parser", "parse", str(file)) == (1, "line 3: only .address_size 64 is supported")


@pytest.mark.parametrize("seed", range(4))
def test_packed_registers_keep_their_values(seed: int) -> None:
    """Random programs, walked by diverged lanes: exec/registers.cpp may never let one register overwrite another."""
    code, out = run("check_packing", str(seed))
    assert code == 0, out
    before, after = map(int, out.split())
    assert after < before
