"""A linear layer of another package that runs on lowbit's kernels.

It needs nothing of lowbit but the ops: the import registers them, torch.ops.lowbit calls them.
"""

import lowbit  # noqa: F401
import torch
from torch import Tensor, nn


class Int4Linear(nn.Module):
    """`nn.Linear` with weights of 4 bits in groups of 64, and the activations as they come (16 or 32 bits)."""

    FORMAT = "int4:g64"

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        codes, scale, _, _ = torch.ops.lowbit.quantize(linear.weight.detach(), self.FORMAT)
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.lowbit.gemm(x, self.codes, self.scale, None, self.FORMAT, bias=self.bias)


def main() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(576, 1536)
    x = torch.randn(3, 576)
    with torch.inference_mode():
        exact, quantized = linear(x), Int4Linear(linear)(x)
    error = ((quantized - exact).norm() / exact.norm()).item()
    print(f"4-bit weights, relative error of the output: {error:.3f}")


if __name__ == "__main__":
    main()
