"""GPTQ: on the grid, better than rounding to nearest on the very same grid, indifferent to how weights are grouped."""

import pytest
import torch
from lowbit.algorithms.grids import read_grid
from lowbit.algorithms.hessian import output_error
from lowbit.algorithms.rounding.clip_search import clip_search
from lowbit.algorithms.rounding.gptq import gptq
from lowbit.algorithms.rounding.rtn import rtn
from lowbit.config import GPTQ, ClipSearch, WeightConfig

UINT3 = WeightConfig("uint3:g32", asymmetric=True)
CONFIGS = [
    UINT3,
    WeightConfig("uint2:g16", asymmetric=True),
    WeightConfig("int4:g64"),
    WeightConfig("int4:row"),
    WeightConfig("nf4:g32"),
    WeightConfig("float4_e2m1fn:g32"),
    WeightConfig("mxfp4"),
    WeightConfig("nvfp4"),
]
FLOAT_SCALES = [c for c in CONFIGS if c.spec.scale is None]


def layer(rows=48, cols=100, seed=0):
    """A weight and the Hessian of correlated inputs."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(cols, cols, generator=generator) * torch.rand(cols, generator=generator)
    x = torch.randn(800, cols, generator=generator) @ mixing
    return torch.randn(rows, cols, generator=generator), 2.0 / 800 * x.T @ x


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.format)
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_beats_nearest_on_the_same_grid(config, act_order, seed):
    weight, hessian = layer(seed=seed)
    near = rtn(weight, config)
    (fed,) = gptq([weight], config, hessian, GPTQ(act_order=act_order), [near])
    for part in ("scale", "zero", "scale2"):
        a, b = getattr(near, part), getattr(fed, part)
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)
    assert output_error(weight, fed.dequantize(), hessian) < 0.8 * output_error(weight, near.dequantize(), hessian)
    # and the weights themselves are further away: the error went where the inputs do not look
    assert output_error(weight, fed.dequantize(), None) > output_error(weight, near.dequantize(), None)


def test_weights_with_one_input_may_be_rounded_together():
    weight, hessian = layer()
    apart = [gptq([part], UINT3, hessian, GPTQ())[0] for part in weight.split([20, 28])]
    together = gptq(weight.split([20, 28]), UINT3, hessian, GPTQ())
    for a, b in zip(apart, together, strict=True):
        assert float((a.unpacked() != b.unpacked()).float().mean()) < 0.01  # matrix products of other shapes


def test_searched_grids_help_it_too():
    weight, hessian = layer()
    weight = weight**3
    plain = gptq([weight], UINT3, hessian, GPTQ())[0]
    searched = gptq([weight], UINT3, hessian, GPTQ(), [clip_search(weight, UINT3, ClipSearch())])[0]
    assert output_error(weight, searched.dequantize(), hessian) < output_error(weight, plain.dequantize(), hessian)


@pytest.mark.parametrize("config", FLOAT_SCALES, ids=lambda c: c.format)
@pytest.mark.parametrize("block", [16, 128])
def test_dynamic_groups(config, block):
    weight, hessian = layer()
    method = GPTQ(act_order=False, static_groups=False, block=block)
    (fed,) = gptq([weight], config, hessian, method)
    near = rtn(weight, config)
    assert output_error(weight, fed.dequantize(), hessian) < 0.9 * output_error(weight, near.dequantize(), hessian)
    if config.spec.groups(100) > 1:
        assert not torch.equal(fed.scale[:, 1:], near.scale[:, 1:])
    assert torch.equal(fed.scale[:, :1], near.scale[:, :1])  # nothing has moved yet


def test_with_uncorrelated_inputs_it_is_nearest():
    weight, _ = layer()
    near = rtn(weight, UINT3)
    (fed,) = gptq([weight], UINT3, torch.eye(100), GPTQ(), [near])
    # the same up to ties, which the op divides out and the loop multiplies
    assert float((fed.unpacked() != near.unpacked()).float().mean()) < 0.002


def test_codes_are_values_of_the_grid():
    weight, hessian = layer()
    (fed,) = gptq([weight], UINT3, hessian, GPTQ())
    grid = read_grid(fed)
    groups = torch.arange(100) // 32
    t = fed.dequantize() / grid.step[:, groups] + grid.zero[:, groups]
    torch.testing.assert_close(t, t.round().clamp(0, 7), atol=1e-4, rtol=0)
    fed.check_values()
