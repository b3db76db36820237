"""swap and its journal."""

import pytest
import torch
from lowbit import QuantTensor
from lowbit.nn import Edits, QuantEmbedding, QuantLayer, QuantLinear, swap
from torch import nn


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.body = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 16))
        self.again = self.body[0]  # one module under two names
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids):
        return self.head(self.body(self.embedding(ids)))


def quantized(module: nn.Module) -> QuantLayer:
    return QuantLayer(QuantTensor.quantize(module.weight.detach(), "int8:row"))


def test_swap_and_undo():
    model = Model()
    before = dict(model.named_modules(remove_duplicate=False))
    ids = torch.randint(0, 20, (2, 3))
    want = model(ids)
    tied = quantized(model.head)
    edits = Edits(model)
    swap(edits, {"body.0": quantized(model.body[0]), "head": tied, "embedding": QuantLayer(tied.weight)})
    assert isinstance(model.body[0], QuantLinear)
    assert model.again is model.body[0]
    assert isinstance(model.embedding, QuantEmbedding)
    assert model.embedding.weight is model.head.weight
    with torch.no_grad():
        assert float((model(ids) - want).norm() / want.norm()) < 0.05
    edits.undo()
    assert dict(model.named_modules(remove_duplicate=False)) == before
    assert torch.equal(model(ids), want)


def test_nothing_is_swapped_when_one_name_is_wrong():
    model = Model()
    good = quantized(model.body[0])
    for name, layer, sentence in (
        ("body.7", good, "must name linears and embeddings of the model, got 'body.7' .absent"),
        ("body", good, "got 'body' .Sequential"),
        ("body.1", good, r"the weight of 'body.1' must be \[16, 8\], got \[8, 16\]"),
    ):
        with pytest.raises(ValueError, match=sentence):
            swap(Edits(model), {"body.0": good, name: layer})
        assert type(model.body[0]) is nn.Linear


def test_training_mode_is_kept():
    model = Model()
    model.eval()
    swap(Edits(model), {"body.0": quantized(model.body[0])})
    assert not model.body[0].training
