"""The Hessian and the factor of its inverse, against float64."""

import numpy as np
import pytest
import torch
from lowbit.algorithms.hessian import HessianSum, inverse_factor, output_error


def inputs(tokens=200, width=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, width, generator=generator) @ torch.randn(width, width, generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sum_is_the_definition(dtype):
    x = inputs().to(dtype)
    total = HessianSum(24)
    for part in x.split(37):
        total.add(part.unsqueeze(0))
    want = 2.0 / len(x) * x.double().T @ x.double()
    # 200 products of float32 inputs, summed in float32
    bound = 200 * 2.0**-24 * float((x.double().abs().T @ x.double().abs()).max()) * 2 / len(x)
    assert float((total.matrix().double() - want).abs().max()) <= bound
    assert total.rows == 200


@pytest.mark.parametrize("act_order", [False, True])
def test_factor_is_that_of_the_damped_inverse(act_order):
    x = inputs()
    hessian = 2.0 / len(x) * x.T @ x
    factor = inverse_factor(hessian, damping=0.05, act_order=act_order)
    h = hessian.double().numpy()
    h = h + 0.05 * np.diag(h).mean() * np.eye(len(h))
    if act_order:
        order = np.argsort(-np.diag(hessian.numpy()), kind="stable")
        assert factor.order.tolist() == order.tolist()
        h = h[order][:, order]
    upper = factor.upper.double().numpy()
    assert np.array_equal(upper, np.triu(upper))
    np.testing.assert_allclose(upper.T @ upper @ h, np.eye(len(h)), atol=1e-4 * np.linalg.cond(h) ** 0.5)


def test_columns_without_input_are_dead():
    x = inputs()
    x[:, 5] = 0
    factor = inverse_factor(2.0 / len(x) * x.T @ x)
    assert factor.dead.nonzero().flatten().tolist() == [5]
    assert bool(torch.isfinite(factor.upper).all())


def test_a_singular_hessian_is_damped():
    x = inputs(tokens=3)
    factor = inverse_factor(2.0 / 3 * x.T @ x)
    assert bool(torch.isfinite(factor.upper).all())


def test_refuses_what_has_no_inverse():
    with pytest.raises(ValueError, match="hessian must be finite"):
        inverse_factor(torch.full((3, 3), float("nan")))
    with pytest.raises(ValueError, match="hessian must be positive definite"):
        inverse_factor(torch.tensor([[1.0, 900.0], [900.0, 1.0]]))


def test_output_error_is_that_of_the_outputs():
    x, weight = inputs().double(), torch.randn(10, 24)
    rounded = weight + 0.01 * torch.randn(10, 24)
    hessian = (2.0 / len(x) * x.T @ x).float()
    want = float(((rounded - weight).double() @ x.T).square().sum() / (weight.double() @ x.T).square().sum())
    assert output_error(weight, rounded, hessian) == pytest.approx(want, rel=1e-3)
    assert output_error(weight, weight, hessian) == 0
    assert output_error(torch.zeros(2, 24), torch.zeros(2, 24), None) == 0
