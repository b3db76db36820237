"""QuantEmbedding."""

import copy

import pytest
import torch
from lowbit import QuantTensor
from lowbit.nn import QuantEmbedding, QuantLinear, QuantWeight


@pytest.mark.parametrize("format", ["int8:row", "int4:g16", "nvfp4", "nf4:g16", "int8:tensor"])
def test_rows_of_the_table(format):
    weight = QuantTensor.quantize(torch.randn(40, 52), format)
    embedding = QuantEmbedding(QuantWeight(weight))
    ids = torch.randint(0, 40, (3, 7))
    assert torch.equal(embedding(ids), weight.dequantize()[ids])
    assert embedding(ids[:0]).shape == (0, 7, 52)


def test_dtype_follows_the_model():
    embedding = QuantEmbedding(QuantWeight(QuantTensor.quantize(torch.randn(40, 52), "int8:row")))
    assert embedding(torch.tensor([1])).dtype == torch.float32
    assert embedding.to(torch.bfloat16)(torch.tensor([1])).dtype == torch.bfloat16


def test_an_id_outside_is_refused():
    embedding = QuantEmbedding(QuantWeight(QuantTensor.quantize(torch.randn(40, 52), "int8:row")))
    with pytest.raises(ValueError, match="embedding: ids must be"):
        embedding(torch.tensor([40]))


def test_ties_survive_copies():
    weight = QuantWeight(QuantTensor.quantize(torch.randn(40, 52), "int8:row"))
    pair = torch.nn.ModuleDict({"head": QuantLinear(weight), "embedding": QuantEmbedding(weight)})
    other = copy.deepcopy(pair).to(torch.bfloat16)
    assert other["head"].weight is other["embedding"].weight
    assert len({b.data_ptr() for n, b in other.named_buffers() if n.endswith("codes")}) == 1
