"""``lowbit.quantize``: a recipe carried out on a model."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import torch
from torch import Tensor, nn

from lowbit import recipes
from lowbit.accounting import measure
from lowbit.algorithms.hessian import output_error
from lowbit.algorithms.rounding.clip_search import clip_search
from lowbit.algorithms.rounding.gptq import gptq
from lowbit.algorithms.rounding.rtn import rtn
from lowbit.calibration import Statistics, require_enough, token_ids, walk
from lowbit.config import GPTQ, ClipSearch, Grid, Recipe, WeightConfig
from lowbit.layers import Layers, find_layers
from lowbit.library import check_values
from lowbit.nn import Edits, QuantLayer, swap
from lowbit.progress import bar
from lowbit.rotation import apply_rotation
from lowbit.tensor import QuantTensor


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """One quantized weight.

    Args:
        name: of the module.
        format: of the weight.
        bits: per weight of this layer, scales and zero points counted.
        error: squared error of the layer's output on the calibration text, relative to the squared output; where no
            text was used, that of the weights themselves.
    """

    name: str
    format: str
    bits: float
    error: float


@dataclasses.dataclass(frozen=True)
class Report:
    """What ``lowbit.quantize`` did. `bits` (per weight) and `bytes` are those of the whole model, embedding, head and
    the unquantized rest included."""

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
            [sequences, length] int64, or the Statistics of ``lowbit.calibrate``, which several recipes can share. With
            text or ids each block is calibrated on the outputs of the quantized blocks before it. Recipes that need
            none do not look at it.
        tokenizer: of transformers; only for text.
        progress: shows a progress bar on stderr.

    Returns:
        A Report: bits per weight, the error of every layer, the time.

    Raises:
        ValueError: an unknown recipe, a model without linears, no or too little calibration text, weights that are not
            finite. The model is then as it was; so it is after KeyboardInterrupt.
    """
    recipe = recipes.get(recipe)
    began = time.perf_counter()
    layers = find_layers(model)
    data = _calibration_data(model, recipe, layers, calibration, tokenizer)
    edits = Edits(model)
    try:
        with torch.no_grad(), bar(f"quantize {recipe.name}", len(layers.blocks) + 1, show=progress) as advance:
            if recipe.transform is not None:
                apply_rotation(edits, layers, recipe.transform)
            reports: list[LayerReport] = []
            for name, hessians in _blocks(model, layers, data):
                reports += _quantize_linears(edits, recipe, layers.blocks[name], hessians)
                advance(1)
            reports += _quantize_linears(edits, recipe, layers.others, {})
            reports += _quantize_ends(edits, recipe, layers)
            advance(1)
    except BaseException:
        edits.undo()
        raise
    model.lowbit_recipe = recipe.to_dict()  # type: ignore[assignment]
    size = measure(model)
    check_values()  # what the kernels found in the weights
    return Report(recipe.name, size.bits, size.bytes, time.perf_counter() - began, tuple(reports))


def _calibration_data(
    model: nn.Module, recipe: Recipe, layers: Layers, calibration: Any, tokenizer: Any
) -> Statistics | Tensor | None:
    if not recipe.needs_calibration:
        return None
    if calibration is None:
        raise ValueError(
            f"quantize: calibration must be given for recipe {recipe.name}, got None; "
            "pass text with tokenizer=, token ids [sequences, length], or lowbit.calibrate(...)"
        )
    if isinstance(calibration, Statistics):
        if recipe.transform is not None:
            raise ValueError(
                f"quantize: calibration must be text or token ids for recipe {recipe.name}, whose transform changes "
                "what the linears see, got Statistics; pass the text itself"
            )
        missing = [n for names in layers.blocks.values() for n in names if n not in calibration.hessians]
        if missing:
            raise ValueError(
                f"quantize: calibration must be the Statistics of this model, got none for {missing[0]!r}; "
                "collect them with lowbit.calibrate(model, ...)"
            )
        require_enough(calibration.tokens, model, layers)
        return calibration
    ids = token_ids(calibration, tokenizer)
    require_enough(ids.numel(), model, layers)
    return ids


def _blocks(model: nn.Module, layers: Layers, data: Statistics | Tensor | None) -> Any:
    """(block, Hessians of its linears), one after the other."""
    if isinstance(data, Tensor):
        return walk(model, layers, data, rerun=True)
    hessians = data.hessians if data is not None else {}
    return ((name, {n: hessians[n] for n in names if n in hessians}) for name, names in layers.blocks.items())


def _quantize_linears(
    edits: Edits, recipe: Recipe, names: tuple[str, ...], hessians: dict[str, Tensor]
) -> list[LayerReport]:
    """Rounds and swaps some linears. Those with one Hessian, because they have one input, are rounded together."""
    weights: dict[str, Tensor] = {n: _weight_of(edits.model, n) for n in names}
    rounded = {n: _nearest(w, recipe.weight, recipe.grid) for n, w in weights.items()}
    if isinstance(recipe.rounding, GPTQ):
        groups: dict[int, list[str]] = {}
        for name in names:
            if name in hessians:
                groups.setdefault(id(hessians[name]), []).append(name)
        for group in groups.values():
            static = [rounded[n] for n in group]
            together = gptq([weights[n] for n in group], recipe.weight, hessians[group[0]], recipe.rounding, static)
            rounded.update(zip(group, together, strict=True))
    x_format = recipe.activation.format if recipe.activation else None
    swap(edits, {n: QuantLayer(rounded[n], x_format) for n in names})
    return [_report(n, rounded[n], weights[n], hessians.get(n)) for n in names]


def _nearest(weight: Tensor, config: WeightConfig, grid: Grid) -> QuantTensor:
    """Rounds to nearest on the grid that is asked for."""
    return clip_search(weight, config, grid) if isinstance(grid, ClipSearch) else rtn(weight, config)


def _quantize_ends(edits: Edits, recipe: Recipe, layers: Layers) -> list[LayerReport]:
    """Rounds and swaps head and embedding to nearest; where they are tied they get one weight."""
    x_format = recipe.head_input.format if recipe.head_input else None
    new: dict[str, QuantLayer] = {}
    reports = []
    for name in (layers.head, layers.embedding):
        if name is None:
            continue
        if name == layers.embedding and layers.tied and layers.head is not None:
            new[name] = QuantLayer(new[layers.head].weight)
            continue
        weight = _weight_of(edits.model, name)
        rounded = rtn(weight, recipe.head_weight)
        new[name] = QuantLayer(rounded, x_format if name == layers.head else None)
        reports.append(_report(name, rounded, weight, None))
    swap(edits, new)
    return reports


def _weight_of(model: nn.Module, name: str) -> Tensor:
    weight = model.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    if not bool(torch.isfinite(weight).all()):
        raise ValueError(
            f"quantize: the weight of {name!r} must be finite, got inf or nan; the model or its file is damaged"
        )
    return weight.detach().float()


def _report(name: str, rounded: QuantTensor, weight: Tensor, hessian: Tensor | None) -> LayerReport:
    return LayerReport(name, rounded.spec.text, rounded.bits, output_error(weight, rounded.dequantize(), hessian))
