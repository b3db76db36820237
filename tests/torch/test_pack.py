import lowbit  # noqa: F401
import pytest
import torch


def test_pack_refuses_codes_out_of_range():
    with pytest.raises(ValueError, match=r"pack: codes must be codes of int3, got 9 at row 1, column 2"):
        torch.ops.lowbit.pack(torch.tensor([[1, 2, 3], [1, 2, 9]], dtype=torch.uint8), "int3")
