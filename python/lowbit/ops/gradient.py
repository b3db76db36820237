"""What the autograd overloads share."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_library = torch.library.Library("lowbit", "IMPL")


def register(
    name: str,
    arguments: dict[str, Any],
    positional: int,
    setup: Callable[..., None],
    backward: Callable[..., tuple[Tensor | None, ...]],
    *,
    twice: bool = False,
) -> None:
    """Makes the overload `name`.autograd the differentiable twin of `name`.default.

    torch.library.register_autograd would do, but for every call it looks up each default in the schema, which takes
    0.2 ms with as many arguments as these ops have.

    Args:
        arguments: of the overload, in order, with their defaults; the dispatcher leaves trailing ones out that equal
            them.
        positional: how many the default overload takes by position; the rest it takes by keyword.
        setup: (ctx, inputs), before the forward pass: keeps what `backward` needs.
        backward: (ctx, gradient of the output) -> gradients of the inputs.
        twice: whether `backward` can be differentiated itself.
    """
    names, defaults = tuple(arguments), tuple(arguments.values())

    def call(inputs: tuple[Any, ...]) -> Tensor:
        default = getattr(torch.ops.lowbit, name).default
        result: Tensor = default(
            *inputs[:positional], **dict(zip(names[positional:], inputs[positional:], strict=True))
        )
        return result

    def forward(ctx: Any, *inputs: Any) -> Tensor:
        setup(ctx, inputs)
        return call(inputs)

    methods = {
        "forward": staticmethod(forward),
        "backward": staticmethod(backward if twice else once_differentiable(backward)),
    }
    function: Any = type(f"{name}_autograd", (torch.autograd.Function,), methods)

    def kernel(*given: Any) -> Tensor:
        inputs = (*given, *defaults[len(given) :])
        if needed(*(v for v in inputs if isinstance(v, Tensor))):
            result: Tensor = function.apply(*inputs)
            return result
        return call(inputs)

    _library.impl(f"{name}.autograd", kernel, "Autograd")


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
