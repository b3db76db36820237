"""Perplexity, windows and the generate loop, against plain restatements."""

import math
from types import SimpleNamespace

import pytest
import tiny
import torch
from lowbit import evaluation
from torch import Tensor, nn


class Uniform(nn.Module):
    """Knows nothing: every token of `vocabulary` is as likely."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    def forward(self, input_ids: Tensor, **_: object) -> SimpleNamespace:
        return SimpleNamespace(logits=torch.zeros(*input_ids.shape, self.vocabulary))


@pytest.mark.parametrize(("tokens", "window", "count"), [(1, 512, 1), (511, 512, 1), (512, 512, 2), (16384, 512, 33)])
def test_windows_predict_enough(tokens: int, window: int, count: int) -> None:
    ids = torch.arange(count * window + 3)
    batches = evaluation.windows(ids, tokens, window)
    assert batches.shape == (count, window)
    assert count * (window - 1) >= tokens
    assert torch.equal(batches.flatten(), ids[: count * window])
    with pytest.raises(
        ValueError, match=f"text must hold at least {count * window} tokens .* got {count * window - 1}"
    ):
        evaluation.windows(ids[: count * window - 1], tokens, window)


def test_perplexity_of_knowing_nothing_is_the_vocabulary() -> None:
    ids = torch.randint(0, 97, (3, 20))
    assert evaluation.perplexity(Uniform(97), ids) == pytest.approx(97, rel=1e-6)


def test_perplexity_is_the_mean_over_all_predicted_tokens() -> None:
    """Against the definition in float64; 1e-5 is far above float32's rounding of a mean of some hundred logarithms."""
    model, ids = tiny.model(), torch.randint(0, 256, (4, 33), generator=torch.Generator().manual_seed(1))
    losses = []
    for row in ids:
        logits = model(input_ids=row[None]).logits[0].double()
        for position in range(len(row) - 1):
            losses.append(-(logits[position].log_softmax(-1)[row[position + 1]]).item())
    assert evaluation.perplexity(model, ids) == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-5)
    assert evaluation.perplexity(model, ids) == evaluation.perplexity(model, ids)


def test_overflow_is_infinite() -> None:
    class Sure(Uniform):
        def forward(self, input_ids: Tensor, **_: object) -> SimpleNamespace:
            logits = torch.zeros(*input_ids.shape, self.vocabulary)
            logits[..., 0] = 1e6
            return SimpleNamespace(logits=logits)

    assert evaluation.perplexity(Sure(4), torch.full((1, 5), 1)) == math.inf


def test_generate_is_greedy_without_a_cache_too() -> None:
    model, prompt = tiny.model(), torch.randint(0, 256, (1, 20), generator=torch.Generator().manual_seed(2))
    made, first, rest = evaluation.generate(model, prompt, 6)
    ids = prompt
    with torch.inference_mode():
        for _ in range(6):
            ids = torch.cat([ids, model(input_ids=ids, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(made, ids[:, 20:])
    assert first > 0
    assert rest > 0


def test_speeds_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    spent = {"a": (1.0, 2.0), "b": (4.0, 8.0)}

    def generate(model: str, prompt: Tensor, tokens: int) -> tuple[None, float, float]:
        order.append(model)
        first, rest = spent[model]
        return None, first * len(order), rest * len(order)

    monkeypatch.setattr(evaluation, "generate", generate)
    steps: list[float] = []
    found = evaluation.speeds({"a": "a", "b": "b"}, torch.zeros(1, 10), 5, 3, steps.append)  # type: ignore[dict-item]
    assert order == ["a", "b"] * 4
    assert len(steps) == 8
    # rounds 2, 3, 4 count; their medians are calls 5 of a and 6 of b
    assert found["a"] == evaluation.Speed(10 / 5, 4 / 10)
    assert found["b"] == evaluation.Speed(10 / 24, 4 / 48)
