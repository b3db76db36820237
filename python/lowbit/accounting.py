"""What a model weighs: bytes as saved, and true bits per weight."""

from __future__ import annotations

import dataclasses

from torch import nn


@dataclasses.dataclass(frozen=True)
class Size:
    """Bytes of everything a checkpoint of the model holds, and the number of weights they stand for."""

    bytes: int
    weights: int

    @property
    def bits(self) -> float:
        """Bits per weight: codes, scales, zero points and the unquantized rest, embedding and head included."""
        return 8.0 * self.bytes / max(self.weights, 1)


def measure(model: nn.Module) -> Size:
    """The size of `model`, quantized or not. Weights that several modules share are counted once."""
    from lowbit.nn import QuantWeight

    total = weights = 0
    quantized = {id(m): m for m in model.modules() if isinstance(m, QuantWeight)}
    for weight in quantized.values():
        total += weight.nbytes
        weights += weight.rows * weight.cols
    for parameter in {id(p): p for p in model.parameters()}.values():
        total += parameter.numel() * parameter.element_size()
        weights += parameter.numel()
    return Size(total, weights)
