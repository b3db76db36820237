"""A file of another package: an inference engine that takes its linear layers from lowbit's ops.

It knows nothing of lowbit's modules and methods: `import lowbit` registers the ops, tensors go in, tensors come out.
Run it:

    python examples/engine_linear.py
"""

import lowbit  # noqa: F401  registers torch.ops.lowbit
import torch
from torch import Tensor, nn

ops = torch.ops.lowbit


class EngineLinear(nn.Module):
    """A drop-in for `nn.Linear`: 4-bit weights in groups of 64; activations in float32, bfloat16 or float16."""

    def __init__(self, linear: nn.Linear, format: str = "int4:g64") -> None:
        super().__init__()
        codes, scale, _, _ = ops.quantize(linear.weight.detach(), format)
        # the order that the kernels read; ops.unprepack gives the canonical planes back for a checkpoint
        self.register_buffer("w", ops.prepack(codes, format, linear.in_features))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())
        self.format = f"{format}@tile16"

    def forward(self, x: Tensor) -> Tensor:
        return ops.gemm(x, self.w, self.scale, None, self.format, bias=self.bias)


class RotatedLinear(nn.Module):
    """4-bit weights times 8-bit activations, both rotated by a Hadamard matrix: (x H) (W H)^T = x W^T.

    The rotation spreads outlier channels over all columns before anything is rounded. Activations are quantized inside
    the product, one scale a row.
    """

    def __init__(self, linear: nn.Linear, format: str = "int4:g64", x_format: str = "int8") -> None:
        super().__init__()
        rotated = ops.hadamard(linear.weight.detach())
        codes, scale, _, _ = ops.quantize(rotated, format)
        self.register_buffer("w", ops.prepack(codes, format, linear.in_features))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())
        self.format, self.x_format = f"{format}@tile16", x_format

    def forward(self, x: Tensor) -> Tensor:
        return ops.gemm(ops.hadamard(x), self.w, self.scale, None, self.format, x_format=self.x_format, bias=self.bias)


def error(layer: nn.Module, linear: nn.Linear, x: Tensor) -> float:
    """Relative error of the output against the float layer."""
    with torch.inference_mode():
        exact = linear(x)
        return ((layer(x) - exact).norm() / exact.norm()).item()


def main() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(576, 1536)
    with torch.no_grad():
        linear.weight[:, ::97] *= 8  # a few large input channels, as language models have them
    x = torch.randn(2, 7, 576)
    x[..., ::97] *= 8
    layers = {
        "W4 in groups of 64": EngineLinear(linear),
        "W4A8": RotatedLinear(linear),
        "W4A4": RotatedLinear(linear, x_format="int4"),
    }
    size = linear.weight.numel() * linear.weight.element_size()
    for name, layer in layers.items():
        packed = sum(b.numel() * b.element_size() for n, b in layer.named_buffers() if n != "bias")
        print(f"{name:20} relative error {error(layer, linear, x):.4f}   weight {packed} of {size} bytes")


if __name__ == "__main__":
    main()
