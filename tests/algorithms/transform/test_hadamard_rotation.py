"""The rotation of single layers."""

import pytest
import torch
from lowbit.algorithms.transform.hadamard_rotation import fold_norm, random_signs, rotate_input, rotate_output

torch.manual_seed(0)


def rotate(x, sign=None, block=0):
    return torch.ops.lowbit.hadamard(x, block=block, sign=sign)


@pytest.mark.parametrize(("width", "block"), [(64, 0), (96, 0), (576, 0), (576, 64), (1536, 0)])
def test_a_rotated_input_gives_the_same_output(width, block):
    sign = random_signs(block or width, 3)
    x, weight = torch.randn(5, width), torch.randn(7, width)
    got = rotate(x, sign, block) @ rotate_input(weight, sign, block=block).T
    torch.testing.assert_close(got, x @ weight.T, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(("width", "block"), [(64, 0), (96, 32), (576, 0)])
def test_a_rotated_output_is_the_output_rotated(width, block):
    sign = random_signs(block or width, 4)
    x, weight = torch.randn(5, 24), torch.randn(width, 24)
    got = x @ rotate_output(weight, sign, block=block).T
    torch.testing.assert_close(got, rotate(x @ weight.T, sign, block), atol=1e-3, rtol=1e-4)


def test_norm_folds_into_the_reader():
    x, weight, norm = torch.randn(5, 24), torch.randn(7, 24), torch.rand(24)
    torch.testing.assert_close(x @ fold_norm(weight, norm).T, (x * norm) @ weight.T)


def test_signs_follow_the_seed():
    assert torch.equal(random_signs(64, 1), random_signs(64, 1))
    assert not torch.equal(random_signs(64, 1), random_signs(64, 2))
    assert set(random_signs(64, 1).tolist()) == {-1.0, 1.0}


def test_outliers_spread():
    x = torch.randn(20, 576)
    x[:, 7] *= 100
    spread = rotate(x, random_signs(576, 0))
    assert (
        float((spread.abs().amax(1) / spread.norm(dim=1)).max()) < 0.3 < float((x.abs().amax(1) / x.norm(dim=1)).max())
    )
