"""Products of bf16 that are denormal, or of denormals. tdpbf16ps (ISA amx) takes them for zeros: whatever an ISA does,
the bits of a row must not depend on the rows beside it."""

import lowbit._C as _C
import numpy as np
import pytest
import torch
from operands import operand

FAST = [name for name in _C.isa_list() if name != "ref"]


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize("weight", ["int8:g64", "uint3:g37", "float8_e4m3fn:row"])
@pytest.mark.parametrize("power", [-112, -120, -126, -133])
def test_bits_do_not_depend_on_the_batch(isa: str, weight: str, power: int) -> None:
    rng = np.random.default_rng(-power)
    m, n, k = 20, 150, 333
    w = operand(rng, weight, n, k, layout="tile16")
    x = torch.from_numpy(rng.standard_normal((m, k)) * 2.0**power).to(torch.bfloat16)

    def product(rows: slice) -> torch.Tensor:
        return torch.ops.lowbit.dequant_gemm(x[rows], w.codes, w.scale, None, w.format, out_dtype=torch.float32)

    before = _C.isa()
    _C.force_isa(isa)
    try:
        whole = product(slice(0, m))
        for rows in (slice(0, 1), slice(3, 5), slice(7, 12)):
            assert torch.equal(product(rows), whole[rows])
    finally:
        _C.force_isa(before)
    kept = torch.full((64,), 2.0**-120) * 2.0**-20
    assert kept.count_nonzero() == 64  # the thread has denormals again
