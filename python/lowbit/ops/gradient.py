"""What the autograd overloads share.

The dispatcher leaves trailing arguments out that equal their defaults: `ctx.needs_input_grad` may be shorter than the
schema, so a formula asks for the entry of an argument only when it was given.
"""

import torch
from torch import Tensor


def needed(*tensors: Tensor | None) -> bool:
    """Whether a call with these arguments must be differentiable."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def refuse(op: str, names: tuple[str, ...], inputs: tuple[object, ...], differentiable: tuple[str, ...]) -> None:
    """Raises when an argument without a gradient formula requires a gradient."""
    for name, value in zip(names, inputs, strict=True):
        if name not in differentiable and isinstance(value, Tensor) and value.requires_grad:
            raise ValueError(
                f"{op}: {name} must not require a gradient, got requires_grad=True; gradients exist of "
                f"{' and '.join(differentiable)}: pass {name}.detach()"
            )


def of_bias(dy: Tensor, dtype: torch.dtype) -> Tensor:
    """The sum of dy over everything but its last dimension, in float32."""
    return dy.sum(dim=tuple(range(dy.dim() - 1)), dtype=torch.float32).to(dtype)
