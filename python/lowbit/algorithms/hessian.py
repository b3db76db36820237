"""The Hessian of a layer's squared output error, and the factor of its inverse that error feedback needs."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor


class HessianSum:
    """Collects H = 2/N sum x x^T over the N rows x of the inputs of a linear.

    Args:
        width: the number of input features.
    """

    def __init__(self, width: int) -> None:
        self._sum = torch.zeros(width, width)
        self.rows = 0

    def add(self, x: Tensor) -> None:
        """Adds inputs [..., width] of any float dtype."""
        flat = x.detach().reshape(-1, x.shape[-1]).float()
        self._sum.addmm_(flat.t(), flat)
        self.rows += flat.shape[0]

    def matrix(self) -> Tensor:
        """[width, width] float32."""
        return self._sum * (2.0 / max(self.rows, 1))


@dataclasses.dataclass(frozen=True)
class InverseFactor:
    """What error feedback needs of a Hessian.

    Args:
        upper: U with H^-1 = U^T U, upper triangular, in the order of `order`.
        order: the columns as they are visited, or None for 0, 1, 2 ...
        dead: columns that no input reaches, [width] bool, in the order of the weight.
    """

    upper: Tensor
    order: Tensor | None
    dead: Tensor


def inverse_factor(hessian: Tensor, *, damping: float = 0.01, act_order: bool = False) -> InverseFactor:
    """Damps H by `damping` times its mean diagonal and factors its inverse.

    With H = R R^T and R upper triangular (a Cholesky factorization from the last row up), H^-1 = R^-T R^-1, so that
    U = R^-1: one factorization and one triangular inverse.

    Raises:
        ValueError: H is not finite, or not positive definite even when damped 1000 times more.
    """
    if not bool(torch.isfinite(hessian).all()):
        raise ValueError(
            "inverse_factor: hessian must be finite, got inf or nan; the calibration text makes the model overflow, "
            "use float32 or other text"
        )
    diagonal = hessian.diagonal().clone()
    dead = diagonal == 0
    diagonal[dead] = 1.0
    order = torch.argsort(diagonal, descending=True, stable=True) if act_order else None
    mean = diagonal.mean()
    for factor in (1.0, 10.0, 100.0, 1000.0):
        h = hessian.clone()
        h.diagonal().copy_(diagonal + factor * damping * mean)
        if order is not None:
            h = h[order][:, order]
        lower, info = torch.linalg.cholesky_ex(h.flip(0, 1))
        if int(info) == 0:
            upper = lower.flip(0, 1)
            identity = torch.eye(len(h))
            return InverseFactor(torch.linalg.solve_triangular(upper, identity, upper=True), order, dead)
    raise ValueError(
        f"inverse_factor: hessian must be positive definite, got one that is not at damping {1000 * damping}; "
        "use more calibration text"
    )


def output_error(weight: Tensor, rounded: Tensor, hessian: Tensor | None) -> float:
    """Squared error of the outputs relative to the squared outputs: tr(D H D^T) / tr(W H W^T), D = rounded - weight;
    without a Hessian that of the weights themselves."""
    error = rounded - weight
    if hessian is None:
        top, bottom = error.double().square().sum(), weight.double().square().sum()
    else:
        top, bottom = ((error @ hessian) * error).double().sum(), ((weight @ hessian) * weight).double().sum()
    return float(top / bottom) if float(bottom) > 0 else 0.0
