"""Where the weights of a model are: its blocks, linears, head and embedding."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor, nn

from lowbit.nn import QuantLinear, RotatedLinear


@dataclasses.dataclass(frozen=True)
class Layers:
    """Names of the modules that a recipe quantizes.

    Args:
        blocks: the names of the decoder blocks in order, each with the names of its linears; a model whose blocks are
            not known is one block "" with all its linears.
        others: linears outside the blocks, but the head.
        head: the linear that makes the logits, or None.
        embedding: of the input tokens, or None.
        tied: head and embedding share their weight.
    """

    blocks: dict[str, tuple[str, ...]]
    others: tuple[str, ...]
    head: str | None
    embedding: str | None
    tied: bool

    @property
    def linears(self) -> tuple[str, ...]:
        """All linears but the head."""
        return tuple(name for names in self.blocks.values() for name in names) + self.others


def find_layers(model: nn.Module) -> Layers:
    """Finds the layers of a causal language model of transformers, or of any module.

    Raises:
        ValueError: the model has no ``nn.Linear``.
    """
    names = {id(module): name for name, module in reversed(list(model.named_modules()))}
    linears = [name for name, m in model.named_modules() if type(m) in (nn.Linear, RotatedLinear)]
    if not linears:
        quantized = any(isinstance(m, QuantLinear) for m in model.modules())
        got = f"{type(model).__name__}, " + ("which is quantized already" if quantized else "which has none")
        way_out = "load the original model" if quantized else "give the module that holds them"
        raise ValueError(f"quantize: model must have linears (torch.nn.Linear), got {got}; {way_out}")
    head = _name_of(model, "get_output_embeddings", names, linears)
    embeddings = [name for name, m in model.named_modules() if type(m) is nn.Embedding]
    embedding = _name_of(model, "get_input_embeddings", names, embeddings)
    tied = head is not None and embedding is not None and _weight(model, head) is _weight(model, embedding)
    inner = [name for name in linears if name != head]
    block_names = _block_names(model, names)
    blocks = {block: tuple(n for n in inner if n.startswith(block + ".")) for block in block_names} or {
        "": tuple(inner)
    }
    covered = {name for block in blocks.values() for name in block}
    return Layers(blocks, tuple(n for n in inner if n not in covered), head, embedding, tied)


def _weight(model: nn.Module, name: str) -> Tensor:
    return model.get_submodule(name).weight  # type: ignore[return-value]


def _name_of(model: nn.Module, getter: str, names: dict[int, str], allowed: list[str]) -> str | None:
    """The name of what the model's getter returns, when it is one of `allowed`."""
    try:
        module = getattr(model, getter)()
    except (AttributeError, NotImplementedError):
        return None
    name = names.get(id(module)) if module is not None else None
    return name if name in allowed else None


def _block_names(model: nn.Module, names: dict[int, str]) -> list[str]:
    decoder: Any = model.get_decoder() if hasattr(model, "get_decoder") else model  # type: ignore[operator]
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        return []
    return [names[id(block)] for block in layers]
