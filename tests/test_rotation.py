"""A rotated model is the same function; its channels no longer stand out."""

import pytest
import torch
from lowbit.config import HadamardRotation
from lowbit.layers import find_layers
from lowbit.nn import Edits
from lowbit.rotation import apply_rotation
from models import logits, relative, tiny_llama, token_ids
from torch import nn

IDS = token_ids(3)


def rotated(model, seed=0):
    edits = Edits(model)
    apply_rotation(edits, find_layers(model), HadamardRotation(seed))
    return edits


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("hidden", "mlp"), [(96, 160), (60, 112)])  # 12 * 8, 20 * 8, 60, 28 * 4
@pytest.mark.parametrize("seed", [0, 1])
def test_equivalent_in_full_precision(tied, hidden, mlp, seed):
    model = tiny_llama(tied=tied, hidden=hidden, mlp=mlp, attention_bias=True, seed=seed)
    with torch.no_grad():
        for parameter in (p for n, p in model.named_parameters() if n.endswith("bias")):
            parameter.uniform_(-0.5, 0.5)
    want = logits(model, IDS)
    rotated(model, seed)
    # float32 with some 10 products of up to 160 terms in a row
    assert relative(logits(model, IDS), want) < 2e-5
    if tied:
        assert model.lm_head.weight is model.model.embed_tokens.weight


def test_equivalent_with_a_cache():
    model = tiny_llama()
    want = model.generate(IDS[:1, :8], max_new_tokens=8, do_sample=False, pad_token_id=0)
    rotated(model)
    assert torch.equal(model.generate(IDS[:1, :8], max_new_tokens=8, do_sample=False, pad_token_id=0), want)


def peak(x):
    """Largest magnitude of a token over its root mean square, the mean of all tokens."""
    return float((x.abs().amax(-1) / x.square().mean(-1).sqrt()).mean())


def test_channels_no_longer_stand_out():
    def peaks(model):
        seen = []
        for layer in model.model.layers:
            for linear in (layer.self_attn.q_proj, layer.mlp.up_proj):
                linear.register_forward_pre_hook(
                    lambda m, args: seen.append(
                        float((args[0].abs().amax(-1) / args[0].square().mean(-1).sqrt()).mean())
                    )
                )
        logits(model, IDS)
        return sum(seen) / len(seen)

    plain, turned = tiny_llama(), tiny_llama()
    rotated(turned)
    assert peaks(turned) < 0.7 * peaks(plain)


def test_undo():
    model = tiny_llama()
    want, before = logits(model, IDS), dict(model.named_parameters())
    rotated(model).undo()
    assert all(p is before[n] for n, p in model.named_parameters())
    assert torch.equal(logits(model, IDS), want)


def test_refusals_leave_the_model_alone():
    for model, sentence in (
        (nn.Sequential(nn.Linear(8, 8)), "model must be one of llama, .* got Sequential"),
        (tiny_llama(hidden=78), "hadamard"),  # no Hadamard matrix of 78 = 39 * 2
    ):
        before = dict(model.named_parameters())
        with pytest.raises(ValueError, match=sentence):
            rotated(model)
        assert all(p is before[n] for n, p in model.named_parameters())
