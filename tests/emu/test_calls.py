"""Calls, printf, assert and trap of device code."""

import numpy as np
from emu.engine_kernel import kernel, line_of, run, words

# ---- calls

CALLS = kernel(
    """
  mov.u32 %r5, 1000;
  and.b32 %r6, %r1, 1;
  setp.eq.u32 %p1, %r6, 0;
  @%p1 bra SKIP;
  {
    .param .b32 param0;
    st.param.b32 [param0], %r1;
    .param .b32 param1;
    st.param.b32 [param1], 3;
    .param .b32 retval0;
    call.uni (retval0), scale, (param0, param1);
    ld.param.b32 %r5, [retval0];
  }
SKIP:
  activemask.b32 %r7;
  setp.ne.u32 %p3, %r7, -1;
  @%p3 mov.u32 %r5, 0;
  st.global.u32 [%rd2], %r5;
  ret;
""",
    outside="""
.func (.param .b32 func_retval0) twice(.param .b32 twice_param_0)
{
  .reg .b32 %r<4>;
  ld.param.u32 %r1, [twice_param_0];
  add.u32 %r2, %r1, %r1;
  st.param.b32 [func_retval0], %r2;
  ret;
}
.func (.param .b32 func_retval0) scale(.param .b32 scale_param_0, .param .b32 scale_param_1)
{
  .reg .pred %p<3>;
  .reg .b32 %r<8>;
  ld.param.u32 %r1, [scale_param_0];
  ld.param.u32 %r2, [scale_param_1];
  setp.gt.u32 %p1, %r1, 15;
  @%p1 bra LARGE;
  mul.lo.u32 %r3, %r1, %r2;
  st.param.b32 [func_retval0], %r3;
  ret;
LARGE:
  {
    .param .b32 param0;
    st.param.b32 [param0], %r1;
    .param .b32 retval0;
    call.uni (retval0), twice, (param0);
    ld.param.b32 %r4, [retval0];
  }
  st.param.b32 [func_retval0], %r4;
  ret;
}
""",
)


def test_calls_of_some_lanes():
    out = words(32)
    assert run(CALLS, 1, 32, out) == []
    t = np.arange(32)
    np.testing.assert_array_equal(out, np.where(t % 2 == 0, 1000, np.where(t > 15, 2 * t, 3 * t)))


FORMAT = ", ".join(str(c) for c in b"t=%3d %.2f %lld %s%%\n\0")
PRINT = kernel(
    """
  .local .align 8 .b8 arguments[32];
  .reg .b64 %SP;
  .reg .f64 %fd<3>;
  mov.u64 %rd10, arguments;
  cvta.local.u64 %rd11, %rd10;
  setp.ne.u32 %p1, %r1, 5;
  @%p1 exit;
  st.local.u32 [%rd10], %r1;
  mov.f64 %fd1, 0d3FF8000000000000;
  st.local.f64 [%rd10+8], %fd1;
  st.local.u64 [%rd10+16], -7;
  mov.u64 %rd12, word;
  cvta.global.u64 %rd12, %rd12;
  st.local.u64 [%rd10+24], %rd12;
  mov.u64 %rd13, format;
  cvta.global.u64 %rd14, %rd13;
  {
    .param .b64 param0;
    st.param.b64 [param0], %rd14;
    .param .b64 param1;
    st.param.b64 [param1], %rd11;
    .param .b32 retval0;
    call.uni (retval0), vprintf, (param0, param1);
    ld.param.b32 %r6, [retval0];
  }
  st.global.u32 [%rd2], %r6;
  ret;
""",
    outside="""
.extern .func (.param .b32 func_retval0) vprintf(.param .b64 vprintf_param_0, .param .b64 vprintf_param_1);
.global .align 1 .b8 format[22] = {FORMAT};
.global .align 1 .b8 word[3] = {104, 105, 0};
""".replace("FORMAT", FORMAT),
)


def test_printf(capfd):
    out = words(32)
    assert run(PRINT, 1, 32, out) == []
    assert capfd.readouterr().out == "t=  5 1.50 -7 hi%\n"
    assert out[5] == 4


ASSERT = kernel(
    """
  setp.ne.u32 %p1, %r3, 70;
  @%p1 bra END;
  mov.u64 %rd10, message;
  cvta.global.u64 %rd11, %rd10;
  {
    .param .b64 param0;
    st.param.b64 [param0], %rd11;
    .param .b64 param1;
    st.param.b64 [param1], %rd11;
    .param .b32 param2;
    st.param.b32 [param2], 42;
    .param .b64 param3;
    st.param.b64 [param3], %rd11;
    .param .b64 param4;
    st.param.b64 [param4], 1;
    call.uni __assertfail, (param0, param1, param2, param3, param4);
  }
END:
  ret;
""",
    outside="""
.extern .func __assertfail(.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e) .noreturn;
.global .align 1 .b8 message[4] = {120, 61, 49, 0};
""",
)


def test_assert():
    (report,) = run(ASSERT, 2, 64, words(128))
    assert report["finding"] == "trap"
    assert report["block"] == [1, 0, 0]
    assert report["thread"] == [6, 0, 0]
    assert "x=1:42" in report["message"]
    assert "`x=1`" in report["message"]
    assert report["line"] == line_of(ASSERT, "call.uni __assertfail")


def test_trap():
    source = kernel("  setp.eq.u32 %p1, %r1, 40;\n  @%p1 trap;\n  ret;\n")
    (report,) = run(source, 1, 64, words(64))
    assert report["finding"] == "trap"
    assert report["thread"] == [40, 0, 0]
    assert report["line"] == line_of(source, "trap;")
