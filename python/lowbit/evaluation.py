"""What a language model under a recipe is judged by: perplexity, size, and tokens per second.

The same code measures every model: the windows of the text, the generate loop, its cache and the number of threads do
not depend on how the weights are stored, so that two rows of one run can be compared.
"""

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowbit.progress import Advance

WINDOW = 512
TOKENS = 16384  # predicted tokens of a perplexity that is worth comparing
PROMPT = 512
GENERATED = 33  # one by the prompt, 32 one at a time
ROUNDS = 3


def windows(ids: Tensor, tokens: int = TOKENS, window: int = WINDOW) -> Tensor:
    """The first windows of the token ids [n] that predict at least `tokens` tokens: [count, window].

    A window predicts all its tokens but the first. ValueError when `ids` is too short.
    """
    count = math.ceil(tokens / (window - 1))
    if ids.numel() < count * window:
        raise ValueError(
            f"eval: text must hold at least {count * window} tokens ({count} windows of {window}), got {ids.numel()}; "
            "give a longer text or ask for fewer tokens"
        )
    return ids.reshape(-1)[: count * window].reshape(count, window)


@torch.inference_mode()
def perplexity(model: nn.Module, batches: Tensor, advance: Advance | None = None) -> float:
    """exp of the mean negative log-likelihood of the tokens of `batches` [count, window], each given those before it
    in its window. One window at a time, summed in float64: the same model gives the same float every time."""
    total = 0.0
    for row in batches:
        logits = model(input_ids=row[None, :-1], use_cache=False).logits[0].float()
        total += F.cross_entropy(logits, row[1:], reduction="none").double().sum().item()
        if advance is not None:
            advance(1)
    mean = total / (batches.shape[0] * (batches.shape[1] - 1))
    return math.exp(mean) if mean < 700 else math.inf


@torch.inference_mode()
def generate(model: nn.Module, prompt: Tensor, tokens: int) -> tuple[Tensor, float, float]:
    """Greedy continuation of `prompt` [1, n] by `tokens`, with the model's own key-value cache.

    Returns the new ids [1, tokens], the seconds of the prompt (which gives the first of them), those of the rest.
    """
    start = time.perf_counter()
    out = model(input_ids=prompt, use_cache=True, logits_to_keep=1)
    made = [out.logits[:, -1:].argmax(-1)]
    middle = time.perf_counter()
    for _ in range(tokens - 1):
        out = model(input_ids=made[-1], past_key_values=out.past_key_values, use_cache=True)
        made.append(out.logits[:, -1:].argmax(-1))
    return torch.cat(made, dim=1), middle - start, time.perf_counter() - middle


@dataclass(frozen=True)
class Speed:
    """Tokens per second: of a prompt read at once, and of tokens made one at a time after it."""

    prefill: float
    decode: float


def speeds(
    models: Mapping[str, nn.Module],
    prompt: Tensor,
    tokens: int,
    rounds: int,
    advance: Advance | None = None,
) -> dict[str, Speed]:
    """The Speed of every model on `prompt` [1, n] and `tokens` after it. In each of the `rounds` the models take turns,
    so that a slow moment of the machine falls on all of them; the median counts. A first round only warms up."""
    prefill: dict[str, list[float]] = {name: [] for name in models}
    decode: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(rounds + 1):
        for name, model in models.items():
            _, first, rest = generate(model, prompt, tokens if turn else 3)
            if turn:
                prefill[name].append(prompt.shape[1] / first)
                decode[name].append((tokens - 1) / rest)
            if advance is not None:
                advance(1)
    return {name: Speed(statistics.median(prefill[name]), statistics.median(decode[name])) for name in models}


def disk_bytes(model: nn.Module, save: Callable[[nn.Module, Path], Any]) -> int:
    """Bytes of the safetensors files that `save(model, folder)` writes."""
    with tempfile.TemporaryDirectory(prefix="lowbit-size-") as folder:
        save(model, Path(folder) / "model")
        return sum(f.stat().st_size for f in Path(folder).rglob("*.safetensors"))
