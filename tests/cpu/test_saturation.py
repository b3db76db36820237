"""Integer products at their largest: where a byte product adds pairs in 16 bits, no sum may leave them."""

import lowbit  # noqa: F401
import lowbit._C as _C
import pytest
import torch

OPS = torch.ops.lowbit
FAST = [name for name in _C.isa_list() if name != "ref"]
RECORDS = {f["name"]: f for f in _C.element_formats()}
INTEGER = [n for n, f in RECORDS.items() if f["int8_shift"] >= 0]
N, K = 32, 700


def extremes(name: str, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and values: a row of the greatest value, one of the least, one of both in turn, one of either at random."""
    values = torch.tensor(RECORDS[name]["values"], dtype=torch.float64)
    if name == "ternary":
        values[2] = 0  # no code
    g = torch.Generator().manual_seed(rows)
    ends = torch.stack([values.argmax(), values.argmin()])
    at = torch.stack([torch.zeros(K), torch.ones(K), torch.arange(K) % 2, torch.randint(0, 2, (K,), generator=g)])
    codes = ends[at.long()][torch.arange(rows) % 4]
    return codes.to(torch.uint8), values[codes]


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize("x_name", ["int8", "uint8", "bipolar8", "int7", "int4", "float4_e2m1fn"])
@pytest.mark.parametrize("w_name", INTEGER)
def test_no_sum_saturates(isa: str, w_name: str, x_name: str) -> None:
    codes, w_values = extremes(w_name, N)
    w = OPS.prepack(OPS.pack(codes, w_name), w_name, K)
    before = _C.isa()
    _C.force_isa(isa)
    try:
        for m in (3, 9):
            x, x_values = extremes(x_name, m)
            ones = torch.ones(m, 1), torch.ones(N, 1)
            got = OPS.scaled_gemm(x, ones[0], f"{x_name}:row@plain", w, ones[1], f"{w_name}:row@tile16", K)
            assert _C.last_kernel().removesuffix(":popcount") == f"scaled_gemm:{isa}"
            # exact sums below 2^53, rounded once
            assert torch.equal(got, (x_values @ w_values.T).float())
    finally:
        _C.force_isa(before)
