"""The one function that puts quantized modules into a model, and the journal that takes them out again."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor, nn

from lowbit.nn.embedding import QuantEmbedding
from lowbit.nn.linear import QuantLinear
from lowbit.nn.rotated import RotatedLinear
from lowbit.nn.weight import QuantWeight
from lowbit.tensor import QuantTensor


@dataclasses.dataclass(frozen=True)
class QuantLayer:
    """What becomes of one linear or embedding.

    Args:
        weight: the quantized weight. Layers given the same object share one weight, as tied heads and embeddings do.
        x_format: quantize the input to this format while running.
    """

    weight: QuantTensor
    x_format: str | None = None


class Edits:
    """Changes to the modules and parameters of a model, each remembered, so that `undo` restores the model.

    The old weights stay in memory until the Edits object is dropped.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._old: list[tuple[dict[str, Any], str, Any]] = []  # registry of a module, name in it, what was there

    def replace(self, old: nn.Module, new: nn.Module) -> None:
        """Puts `new` wherever the model holds `old`."""
        new.train(old.training)
        for parent in list(self.model.modules()):
            for name, child in list(parent._modules.items()):
                if child is old:
                    self._set(parent._modules, name, new)

    def set_parameter(self, module: nn.Module, name: str, value: Tensor) -> None:
        """Gives `module` another parameter; the old one keeps its values."""
        old = module._parameters[name]
        if not isinstance(value, nn.Parameter):
            value = nn.Parameter(value, requires_grad=old is not None and old.requires_grad)
        self._set(module._parameters, name, value)

    def set_buffer(self, module: nn.Module, name: str, value: Tensor) -> None:
        """Gives `module` another buffer."""
        self._set(module._buffers, name, value)

    def undo(self) -> None:
        """Takes all changes back, last first."""
        while self._old:
            registry, name, old = self._old[-1]
            registry[name] = old
            self._old.pop()

    def _set(self, registry: dict[str, Any], name: str, value: Any) -> None:
        # remembered before it is changed: an interrupt between the two lines loses nothing
        self._old.append((registry, name, registry[name]))
        registry[name] = value


def swap(edits: Edits, layers: dict[str, QuantLayer]) -> None:
    """Replaces linears and embeddings of ``edits.model`` by quantized ones.

    Args:
        edits: remembers the old modules.
        layers: what becomes of the module with that name.

    Raises:
        ValueError: a name that the model has not, a module of another kind, or a weight of another shape; then nothing
            was replaced.
    """
    model = edits.model
    found = dict(model.named_modules(remove_duplicate=False))
    weights: dict[int, QuantWeight] = {}
    plan: list[tuple[nn.Module, nn.Module]] = []
    for name, layer in layers.items():
        old = found.get(name)
        if not isinstance(old, nn.Linear | nn.Embedding):
            raise ValueError(
                f"swap: layers must name linears and embeddings of the model, got {name!r} "
                f"({type(old).__name__ if old is not None else 'absent'}); see model.named_modules()"
            )
        shape = old.weight.shape
        if tuple(shape) != tuple(layer.weight.shape):
            raise ValueError(
                f"swap: the weight of {name!r} must be {list(shape)}, got {list(layer.weight.shape)}; "
                "quantize the weight of this very model"
            )
        weight = weights.get(id(layer.weight))
        if weight is None:
            weight = weights[id(layer.weight)] = QuantWeight(layer.weight)
        plan.append((old, _quantized(old, weight, layer)))
    for old, new in plan:
        edits.replace(old, new)


def _quantized(old: nn.Linear | nn.Embedding, weight: QuantWeight, layer: QuantLayer) -> nn.Module:
    if isinstance(old, nn.Embedding):
        return QuantEmbedding(weight, dtype=old.weight.dtype, padding_idx=old.padding_idx)
    hadamard, sign = (old.hadamard, old.sign) if isinstance(old, RotatedLinear) else (0, None)
    return QuantLinear(weight, old.bias, x_format=layer.x_format, hadamard=hadamard, sign=sign)
