"""``lowbit.quantize``: a recipe carried out on a model."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from lowbit.config import Recipe


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """One quantized weight. `error` is the squared error of the layer's output on the calibration text relative to the
    squared output, or the same of the weight itself where no text was used."""

    name: str
    format: str
    bits: float
    error: float


@dataclasses.dataclass(frozen=True)
class Report:
    """What ``lowbit.quantize`` did. `bits` and `bytes` are those of the whole model, embedding and norms included."""

    recipe: str
    bits: float
    bytes: int
    seconds: float
    layers: tuple[LayerReport, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return dataclasses.asdict(self)


def quantize(
    model: nn.Module,
    recipe: str | Recipe,
    *,
    calibration: Any = None,
    tokenizer: Any = None,
    progress: bool = True,
) -> Report:
    """Quantizes `model` in place: every ``nn.Linear``, the embedding and the head.

    Args:
        model: a causal language model of transformers, or any module with linears.
        recipe: a name of ``lowbit.recipes.names()`` or a Recipe.
        calibration: what recipes with statistics (GPTQ) need: text (str or list of str, with `tokenizer`), token ids
            [sequences, length] int64, or the Statistics of ``lowbit.calibrate``, which several recipes can share.
        tokenizer: of transformers; only for text.
        progress: shows a progress bar on stderr.

    Returns:
        A Report.

    Raises:
        ValueError: an unknown recipe, a model without linears, no or too little calibration text. The model is then as
            it was; so it is after KeyboardInterrupt.
    """
    raise NotImplementedError


def calibrate(model: nn.Module, calibration: Any, *, tokenizer: Any = None, progress: bool = True) -> Any:
    """Collects the statistics of `model` once, for several recipes of the same model without a transform.

    Returns:
        Statistics: the input Hessian of every linear, [K, K] float32 each; linears with the same input share one.
    """
    raise NotImplementedError
