"""How a kernel and what it calls become one program: calls, tables, places of variables, special registers, and what is
said about a statement that cannot be decoded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from emu import emulator

HEAD = ".version 9.0\n.target sm_90\n.address_size 64\n"
# One pointer as parameter: %rd1 is the word of the thread, %r1 its index.
BEGIN = """
.entry k(.param .u64 out) {
  .reg .pred %p<8>; .reg .b16 %rs<8>; .reg .b32 %r<32>; .reg .b64 %rd<32>; .reg .f32 %f<8>; .reg .f64 %fd<8>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mad.wide.u32 %rd1, %r1, 4, %rd1;
"""
END = "st.global.u32 [%rd1], %r2;\n ret;\n}\n"


def result(body: str, outside: str = "", threads: int = 4, blocks: Any = 1, shared: int = 0) -> list[int]:
    """What each thread of the block leaves in %r2."""
    out = emulator.empty(threads, np.uint32)
    with emulator.silent():
        module = emulator.Module(HEAD + outside + BEGIN + body + END)
        module.launch("k", blocks, threads, out, shared=shared)
        return out.get().tolist()


STRUCT = """
.func (.param .align 8 .b8 result[16]) pair(.param .b32 a, .param .align 8 .b8 b[16]) {
  .reg .b32 %r<4>; .reg .b64 %rd<2>;
  ld.param.b32 %r1, [a];
  ld.param.b32 %r2, [b+4];
  ld.param.b64 %rd1, [b+8];
  st.param.b32 [result], %r2;
  st.param.b64 [result+8], %rd1;
  add.u32 %r3, %r1, %r2;
  st.param.b32 [result+4], %r3;
  ret;
}
"""


def test_call_with_structs() -> None:
    """Twice in one kernel: the frame is used again, and the caller's argument survives in its registers."""
    body = """
    { .param .b32 p0; .param .align 8 .b8 p1[16]; .param .align 8 .b8 r[16];
      st.param.b32 [p0], %r1; st.param.b32 [p1+4], 100; st.param.b64 [p1+8], 7;
      call.uni (r), pair, (p0, p1);
      ld.param.b32 %r3, [r]; ld.param.b32 %r4, [r+4]; ld.param.b64 %rd2, [r+8]; }
    { .param .b32 p0; .param .align 8 .b8 p1[16]; .param .align 8 .b8 r[16];
      st.param.b32 [p0], %r4; st.param.b32 [p1+4], %r3; st.param.b64 [p1+8], %rd2;
      call.uni (r), pair, (p0, p1);
      ld.param.b32 %r5, [r+4]; ld.param.b64 %rd3, [r+8]; }
    cvt.u32.u64 %r6, %rd3;
    mad.lo.u32 %r2, %r5, 10, %r6;
    """
    assert result(body, STRUCT) == [(i + 200) * 10 + 7 for i in range(4)]


def test_call_in_one_branch() -> None:
    """Only some threads call; the registers of the others are not touched by the callee."""
    body = """
    mov.u32 %r2, 50;
    and.b32 %r3, %r1, 1;
    setp.eq.u32 %p1, %r3, 0;
    @%p1 bra SKIP;
    { .param .b32 p0; .param .align 8 .b8 p1[16]; .param .align 8 .b8 r[16];
      st.param.b32 [p0], %r1; st.param.b32 [p1+4], 100; st.param.b64 [p1+8], 7;
      call (r), pair, (p0, p1);
      ld.param.b32 %r2, [r+4]; }
    SKIP:
    """
    assert result(body, STRUCT) == [50, 101, 50, 103]


def test_call_by_registers() -> None:
    """Formals and actuals that are registers or constants."""
    outside = """
    .func (.reg .b32 d) sum(.reg .b32 a, .reg .b32 b) { add.u32 d, a, b; ret; }
    .func (.param .b32 d) product(.param .b32 a, .param .b32 b) {
      .reg .b32 x, y;
      ld.param.b32 x, [a]; ld.param.b32 y, [b]; mul.lo.u32 x, x, y; st.param.b32 [d], x; ret;
    }
    """
    body = """
    call (%r3), sum, (%r1, 40);
    call (%r4), product, (%r3, %r3);
    setp.eq.u32 %p1, %r1, 1;
    mov.u32 %r2, 9;
    @%p1 call (%r2), sum, (%r4, 1);
    """
    assert result(body, outside) == [9, 41 * 41 + 1, 9, 9]


def test_indirect_call() -> None:
    outside = """
    .func (.param .b32 d) plus(.param .b32 a) {
      .reg .b32 x; ld.param.b32 x, [a]; add.u32 x, x, 10; st.param.b32 [d], x;
    }
    .func (.param .b32 d) times(.param .b32 a) {
      .reg .b32 x; ld.param.b32 x, [a]; mul.lo.u32 x, x, 10; st.param.b32 [d], x;
    }
    .func (.param .b32 d) unfit(.param .b64 a) { st.param.b32 [d], 1; }
    .global .u64 list[3] = {plus, times, unfit};
    """
    body = """
    and.b32 %r3, %r1, 1;
    mov.u64 %rd2, list;
    mad.wide.u32 %rd2, %r3, 8, %rd2;
    ld.global.u64 %rd3, [%rd2];
    { .param .b32 p; .param .b32 q;
      fits: .callprototype (.param .b32 _) _ (.param .b32 _);
      st.param.b32 [p], %r1;
      call (q), %rd3, (p), fits;
      ld.param.b32 %r2, [q]; }
    """
    assert result(body, outside) == [10, 10, 12, 30]


def test_branch_table() -> None:
    body = """
    LIST: .branchtargets A, B, C, B;
    brx.idx %r1, LIST;
    A: mov.u32 %r2, 1; bra END;
    B: mov.u32 %r2, 2; bra END;
    C: mov.u32 %r2, 3;
    END:
    """
    assert result(body) == [1, 2, 3, 2]


def test_shared_layout() -> None:
    """Static variables at their alignment, those of called functions included; behind them all dynamic arrays."""
    outside = """
    .shared .align 4 .b8 unused[64];
    .shared .b8 one;
    .shared .align 8 .b8 two[12];
    .extern .shared .align 32 .b8 dynamic[];
    .extern .shared .align 4 .b8 again[];
    .func inner() { .reg .b32 x; .shared .align 16 .b8 three[4]; mov.u32 x, three; st.shared.u32 [three], x; ret; }
    """
    body = """
    .shared .align 2 .b8 local[2];
    call inner, ();
    mov.u32 %r3, one; mov.u32 %r4, two; mov.u32 %r5, local; mov.u32 %r6, dynamic; mov.u32 %r7, again;
    mov.u32 %r8, %dynamic_smem_size; mov.u32 %r9, %total_smem_size;
    mov.u32 %r2, %r3;
    setp.eq.u32 %p1, %r1, 1; @%p1 mov.u32 %r2, %r4;
    setp.eq.u32 %p1, %r1, 2; @%p1 mov.u32 %r2, %r5;
    setp.eq.u32 %p1, %r1, 3; @%p1 mov.u32 %r2, %r6;
    setp.eq.u32 %p1, %r1, 4; @%p1 mov.u32 %r2, %r7;
    setp.eq.u32 %p1, %r1, 5; @%p1 mov.u32 %r2, %r8;
    setp.eq.u32 %p1, %r1, 6; @%p1 mov.u32 %r2, %r9;
    """
    with emulator.settings(races=0):  # every thread writes the same word of `three`
        assert result(body, outside, threads=7, shared=100) == [0, 8, 20, 64, 64, 100, 164]


def test_symbol_addresses() -> None:
    """Global, constant, local and parameter space: by name, by register, and generic where a pointer is stored."""
    outside = """
    .global .align 4 .b32 numbers[4] = {10, 20, 30, 40};
    .const .align 4 .b32 constants[4] = {1, 2, 3, 4};
    .global .u64 pointer = generic(numbers)+8;
    """
    body = """
    .local .align 8 .b8 depot[16];
    ld.global.u32 %r3, [numbers+4];
    mov.u64 %rd2, constants;
    mad.wide.u32 %rd2, %r1, 4, %rd2;
    ld.const.u32 %r4, [%rd2];
    ld.global.u64 %rd3, [pointer];
    ld.u32 %r5, [%rd3+4];
    st.local.u32 [depot+8], %r1;
    mov.u64 %rd4, depot;
    cvta.local.u64 %rd5, %rd4;
    ld.u32 %r6, [%rd5+8];
    ld.u32 %r7, [numbers];
    add.u32 %r2, %r3, %r4; add.u32 %r2, %r2, %r5; add.u32 %r2, %r2, %r6; add.u32 %r2, %r2, %r7;
    """
    assert result(body, outside) == [20 + 1 + i + 40 + i + 10 for i in range(4)]


def test_special_registers() -> None:
    body = """
    mov.u32 %r2, %laneid;
    mov.u32 %r3, %lanemask_lt; popc.b32 %r3, %r3; mad.lo.u32 %r2, %r3, 100, %r2;
    mov.u32 %r3, %lanemask_ge; popc.b32 %r3, %r3; mad.lo.u32 %r2, %r3, 10000, %r2;
    mov.u32 %r3, %warpid; mad.lo.u32 %r2, %r3, 1000000, %r2;
    mov.u32 %r3, %nwarpid; mad.lo.u32 %r2, %r3, 10000000, %r2;
    mov.u32 %r3, %cluster_nctaid.y; mov.u32 %r4, %ntid.z; mul.lo.u32 %r3, %r3, %r4; add.u32 %r2, %r2, %r3;
    mov.u64 %rd2, %clock64; mov.u64 %rd3, %clock64;
    setp.le.u64 %p1, %rd3, %rd2; @%p1 mov.u32 %r2, 0;
    mov.u32 %r3, %ctaid.w; add.u32 %r2, %r2, %r3;
    """
    expected = [i % 32 * 101 + (32 - i % 32) * 10000 + i // 32 * 1000000 + 30000001 for i in range(70)]
    assert result(body, threads=70) == expected


def test_widths() -> None:
    """Loads, stores and conversions whose register is wider than their type; constants; negated predicates."""
    outside = ".global .align 8 .b8 bytes[8] = {200, 1, 2, 3, 4, 5, 6, 7};\n.global .align 8 .b8 room[8];"
    body = """
    ld.global.s8 %rd2, [bytes];
    ld.global.u8 %rd3, [bytes];
    add.s64 %rd4, %rd2, %rd3;
    st.global.u32 [room], %rd4;
    ld.global.u32 %r3, [room];
    shr.u64 %rd4, %rd4, 32; cvt.u32.u64 %r9, %rd4; add.u32 %r3, %r3, %r9;
    mov.f32 %f1, 1.5; mov.b32 %r4, %f1; shr.u32 %r4, %r4, 20;
    mov.f64 %fd1, 0f3FC00000; cvt.rzi.u32.f64 %r5, %fd1;
    setp.eq.u32 %p1, %r1, 2;
    selp.u32 %r6, 5, 6, !%p1;
    mov.pred %p2, 1;
    and.pred %p3, %p2, !%p1;
    selp.u32 %r7, 1, 0, %p3;
    mov.b64 {%r8, _}, %rd3;
    mov.u64 %rd6, 5000; @%p1 ld.global.u8 %rd6, [bytes+4]; cvt.u32.u64 %r10, %rd6; add.u32 %r8, %r8, %r10;
    mov.u32 %r2, 0;
    mad.lo.u32 %r2, %r3, 1, %r2; mad.lo.u32 %r2, %r4, 1000, %r2; mad.lo.u32 %r2, %r5, 10, %r2;
    mad.lo.u32 %r2, %r6, 100, %r2; add.u32 %r2, %r2, %r7; add.u32 %r2, %r2, %r8;
    """
    with emulator.settings(races=0):
        found = result(body, outside)
    assert found == [144 + 0x3FC * 1000 + 10 + (604 if i == 2 else 5500) + (i != 2) + 200 for i in range(4)]


WRONG = [
    ("ld.global.s31 %r2, [%rd1];", "ld: "),
    ("add.u32.foo %r2, %r1, 1;", "add: unknown modifier .foo"),
    ("frobnicate.u32 %r2, %r1;", "unknown instruction 'frobnicate'"),
    ("add.u32 %r2, %r1, 1, 2;", "add: operand 4 is not known to this instruction"),
    ("add.u32 %r2, %r1;", "add: needs more than 2 operands"),
    ("add.u32 %r2, %rd1, 1;", "add: register '%rd1' is .b64 where .u32 is needed"),
    ("add.u32 %r2, %p1, 1;", "add: register '%p1' is .pred where .u32 is needed"),
    ("ld.global.u64 %r2, [%rd1];", "ld: register '%r2' is .b32 where .u64 is needed"),
    ("mov.u32 %r2, %nothing;", "mov: '%nothing' is no register"),
    ("mov.u32 %r2, %tid.q;", "mov: '%tid.q' is no register"),
    ("mov.u32 %r2, %clock64;", "mov: '%clock64' has 64 bits where .u32 is needed"),
    ("mov.u64 %rd2, nowhere;", "'nowhere' is not declared"),
    ("add.f32 %f1, %f1, 1;", "add: integer constant where .f32 is needed"),
    ("add.u32 %r2, %r1, 0f3F800000;", "add: floating constant where .u32 is needed"),
    ("add.u32 5, %r1, 1;", "add: a destination must be a register"),
    ("add.u32 %r2, !%r1, 1;", "add: '!' before '%r1', which is no predicate here"),
    ("add.u32 %r2, _, 1;", "add: '_' where a value is needed"),
    ("@%r1 mov.u32 %r2, 1;", "guard '%r1' is no predicate"),
    ("ld.global.u32 %r2, %rd1;", "ld: operand 2 must be an address [...]"),
    ("ld.global.u32 %r2, [%rs1];", "ld: register '%rs1' is .b16 where an address is needed"),
    ("ld.shared.u32 %r2, [out];", "ld: 'out' does not lie in the space of this instruction"),
    ("ld.u32 %r2, [two];", "ld: 'two' is a function, which has no memory"),
    ("bra %r1;", "bra: operand 1 must be a label of this function"),
    ("bra nowhere;", "bra: operand 1 must be a label of this function"),
    ("call nowhere, ();", "'nowhere' is no function of this module"),
    ("call self, ();", "'self' may call itself; recursion is not supported"),
    ("call two, (%r1);", "the call has 1 operands where the function has 2"),
]


@pytest.mark.parametrize(("statement", "message"), WRONG)
def test_errors_name_the_line(statement: str, message: str) -> None:
    outside = ".func self() {\ncall self, (); }\n.func two(.param .b32 a, .param .b32 b) { ret; }\n"
    source = HEAD + outside + BEGIN + "\n\n" + statement + "\nmov.u32 %r2, 1;\n" + END
    line = source.split(statement)[0].count("\n") + 1
    if "self" in statement:
        line = 5
    with pytest.raises(emulator.EmulatorError) as raised:
        emulator.Module(source).launch("k", 1, 1, emulator.empty(1, np.uint32))
    assert f"line {line}: {message}" in str(raised.value)
