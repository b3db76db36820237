"""Where the weights of a model are found."""

from lowbit.layers import find_layers
from models import tiny_llama
from torch import nn


def test_a_causal_language_model():
    layers = find_layers(tiny_llama())
    assert list(layers.blocks) == ["model.layers.0", "model.layers.1"]
    assert layers.blocks["model.layers.1"][0] == "model.layers.1.self_attn.q_proj"
    assert len(layers.linears) == 14
    assert (layers.head, layers.embedding, layers.tied) == ("lm_head", "model.embed_tokens", True)
    assert layers.others == ()
    assert not find_layers(tiny_llama(tied=False)).tied


def test_a_plain_module():
    layers = find_layers(nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 4))))
    assert layers.blocks == {"": ("0", "1.0")}
    assert (layers.head, layers.embedding, layers.tied) == (None, None, False)


def test_linears_outside_the_blocks():
    model = tiny_llama()
    model.extra = nn.Linear(3, 4)
    assert find_layers(model).others == ("extra",)
