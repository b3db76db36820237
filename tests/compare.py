"""How results are held to the oracle, and which code gave them."""

import numpy as np
import torch
from oracle import gemm

# what rounds to infinity
OVERFLOW = {torch.float32: 2.0**128 * (1 - 2.0**-25), torch.bfloat16: 2.0**128 * (1 - 2.0**-9), torch.float16: 65520.0}


def vectors_of(isa: str) -> str:
    """The ISA whose kernels `isa` runs beside products: AMX and AVX-VNNI differ in these alone."""
    return {"amx": "avx512", "avxvnni": "avx2"}.get(isa, isa)


def assert_bits(got: torch.Tensor, want: np.ndarray) -> None:
    """Equal to the last bit, after the rounding of `want` (float32) to the output dtype."""
    expected = torch.from_numpy(np.ascontiguousarray(want)).to(got.dtype)
    assert got.shape == expected.shape
    bits = torch.int32 if got.element_size() == 4 else torch.int16
    same = torch.equal(got.contiguous().view(bits), expected.view(bits))
    assert same, f"first difference at {torch.nonzero(got != expected)[:1].tolist()}: {got} for {expected}"


def assert_near(got: torch.Tensor, x: gemm.Matrix, w: gemm.Matrix, bias: np.ndarray | None = None) -> None:
    """Within gemm.bound() of the exact product."""
    want = gemm.exact(x, w, bias)
    assert got.shape == want.shape
    allowed = gemm.bound(x, w, bias, str(got.dtype).removeprefix("torch."))
    actual = got.double().numpy()
    overflow = np.isinf(actual) & (np.sign(actual) == np.sign(want)) & (np.abs(want) + allowed >= OVERFLOW[got.dtype])
    error = np.where(overflow, 0.0, np.abs(np.where(overflow, 0.0, actual) - want * ~overflow))
    assert (error <= allowed).all(), f"error {error.max()} beyond {allowed.flat[np.argmax(error - allowed)]}"
