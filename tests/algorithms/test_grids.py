"""Grids and the search for the best range."""

import pytest
import torch
from lowbit.algorithms.grids import Rounder, blocks_of, min_max, read_grid
from lowbit.algorithms.rounding.clip_search import clip_search
from lowbit.algorithms.rounding.rtn import rtn
from lowbit.config import ClipSearch, WeightConfig
from lowbit.spec import FormatSpec

CONFIGS = [
    WeightConfig("uint4:g16", asymmetric=True),
    WeightConfig("int3:g16"),
    WeightConfig("nf4:g16"),
    WeightConfig("float8_e4m3fn:row"),
    WeightConfig("int4:tensor"),
    WeightConfig("float4_e2m1fn:b4x16"),
    WeightConfig("mxfp4"),
    WeightConfig("mxint8"),
    WeightConfig("nvfp4"),
    WeightConfig("int2:g16/uint4:g2"),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.format)
def test_a_grid_gives_the_values_of_its_tensor(config):
    weight = torch.randn(11, 50, generator=torch.Generator().manual_seed(3))
    like = min_max(weight, config)
    grid = read_grid(like)
    groups = torch.arange(50) // grid.group
    codes = like.unpacked().long()
    values = torch.tensor([float(v.real) for v in like.spec.values])[codes]
    if grid.zero is not None:
        values -= grid.zero[:, groups]
    torch.testing.assert_close(values * grid.step[:, groups], like.dequantize(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.format)
def test_rounder_agrees_with_the_op(config):
    weight = torch.randn(7, 50, generator=torch.Generator().manual_seed(4))
    like = min_max(weight, config)
    grid = read_grid(like)
    groups = torch.arange(50) // grid.group
    t = weight / grid.step[:, groups]
    zero = 0.0 if grid.zero is None else grid.zero[:, groups]
    rounded = grid.rounder.round(t + zero)
    torch.testing.assert_close((rounded - zero) * grid.step[:, groups], like.dequantize(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "element", ["int1", "int4", "uint3", "ternary", "bipolar2", "nf4", "float4_e2m1fn", "float8_e4m3fn"]
)
def test_codes_invert_values(element):
    spec = FormatSpec.parse(element)
    rounder = Rounder(spec)
    codes = rounder.codes(rounder.values)
    assert [spec.values[c] for c in codes.tolist()] == rounder.values.tolist()


def test_blocks_fill_up_the_last_group():
    x = torch.arange(10.0).reshape(2, 5)
    blocks = blocks_of(x, 3)
    assert blocks.shape == (2, 2, 3)
    assert blocks[1, 1].tolist() == [8.0, 9.0, 0.0]


@pytest.mark.parametrize("config", CONFIGS[:4], ids=lambda c: c.format)
@pytest.mark.parametrize("norm", [2.0, 2.4])
def test_search_is_no_worse_than_min_max(config, norm):
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(9, 40, generator=generator) ** 3  # long tails
    group = config.spec.block_cols or 40

    def error(q):
        return blocks_of((q.dequantize() - weight).abs() ** norm, group).sum(-1)

    plain, searched = error(rtn(weight, config)), error(clip_search(weight, config, ClipSearch(norm=norm)))
    assert bool((searched <= plain * (1 + 1e-5)).all())
    if config.spec.bits < 8:  # at 8 bits the ends of a long tail are worth more than what lies between
        assert float(searched.sum()) < float(plain.sum())


def test_search_leaves_zeros_alone():
    config = WeightConfig("uint4:g16", asymmetric=True)
    assert not clip_search(torch.zeros(3, 20), config, ClipSearch()).dequantize().any()
