"""Calibration: text to token windows, and block-by-block capture of what enters the linears.

A decoder is run one block after the other over all windows, so that only the hidden states between two blocks and the
Hessians of one block are held; with `after_block` a block may be replaced by its quantized self before its outputs
become the next block's inputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lowbit.algorithms.hessian import HessianSum
from lowbit.layers import Layers, find_layers
from lowbit.nn.rotated import rotate
from lowbit.progress import bar

Arguments = tuple[tuple[Any, ...], dict[str, Any]]  # of a block, behind the hidden states


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Input Hessians of the linears of one model: what several recipes can share.

    Args:
        hessians: by the name of the linear, [in, in] float32; linears with the same input hold the same tensor.
        tokens: how many tokens were seen.
    """

    hessians: dict[str, Tensor]
    tokens: int


def token_windows(text: str | Sequence[str], tokenizer: Any, *, windows: int = 32, length: int = 512) -> Tensor:
    """Windows of tokens, spread evenly over the text: [at most `windows`, length] int64.

    Raises:
        ValueError: less text than one window.
    """
    if tokenizer is None:
        raise ValueError(
            "calibrate: tokenizer must be given for text, got None; pass tokenizer=, or token ids [sequences, length]"
        )
    texts = [text] if isinstance(text, str) else list(text)
    # a tokenizer warns of text longer than the model's context; the windows are not
    ids = [i for t in texts for i in tokenizer(t, add_special_tokens=False, verbose=False)["input_ids"]]
    count = len(ids) // length
    if count == 0:
        raise ValueError(f"calibrate: calibration must have at least {length} tokens, got {len(ids)}; give more text")
    chosen = [i * count // min(windows, count) for i in range(min(windows, count))]
    return torch.tensor([ids[c * length : (c + 1) * length] for c in chosen])


def token_ids(calibration: Any, tokenizer: Any) -> Tensor:
    """Calibration in any form that ``lowbit.quantize`` takes, as int64 [sequences, length]."""
    if isinstance(calibration, str) or (
        isinstance(calibration, list | tuple) and calibration and all(isinstance(t, str) for t in calibration)
    ):
        return token_windows(calibration, tokenizer)
    if isinstance(calibration, list | tuple):
        try:
            calibration = torch.stack([torch.as_tensor(t).reshape(-1) for t in calibration])
        except (RuntimeError, TypeError, ValueError):
            calibration = None
    if not isinstance(calibration, Tensor) or calibration.dim() != 2 or calibration.is_floating_point():
        got = f"{calibration.dtype} {list(calibration.shape)}" if isinstance(calibration, Tensor) else "something else"
        raise ValueError(
            f"calibrate: calibration must be text, int64 token ids [sequences, length] or Statistics, got {got}; "
            "see lowbit.quantize"
        )
    return calibration.long()


def require_enough(tokens: int, model: nn.Module, layers: Layers) -> None:
    """Refuses fewer tokens than the widest linear has inputs: its Hessian would have no inverse."""
    linears: Any = [model.get_submodule(name) for names in layers.blocks.values() for name in names]
    width = max(linear.in_features for linear in linears)
    if tokens < width:
        raise ValueError(
            f"calibrate: calibration must have at least {width} tokens, as many as the widest linear has inputs, "
            f"got {tokens}; give more text"
        )


def calibrate(model: nn.Module, calibration: Any, *, tokenizer: Any = None, progress: bool = True) -> Statistics:
    """Collects the statistics of `model` once, for several recipes without a transform.

    Args:
        model: as for ``lowbit.quantize``; not changed.
        calibration: text or token ids, as for ``lowbit.quantize``.
        tokenizer: of transformers; only for text.
        progress: shows a progress bar on stderr.

    Raises:
        ValueError: too little text, or a model without linears.
    """
    layers = find_layers(model)
    ids = token_ids(calibration, tokenizer)
    require_enough(ids.numel(), model, layers)
    hessians: dict[str, Tensor] = {}
    with bar("calibrate", len(layers.blocks), show=progress) as advance:
        for _, captured in walk(model, layers, ids):
            hessians.update(captured)
            advance(1)
    return Statistics(hessians, ids.numel())


@torch.no_grad()
def walk(
    model: nn.Module, layers: Layers, ids: Tensor, *, rerun: bool = False
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Runs `model` over the windows `ids`, block by block.

    Yields:
        (name of the block, Hessians of its linears). What the caller does to the block before it asks for the next one
        is seen by the following blocks when `rerun` is true; else they get the outputs of the block as it was.
    """
    was_training = model.training
    model.eval()
    try:
        names = list(layers.blocks)
        if names == [""]:
            calls = [_model_call(model, window) for window in ids.split(1)]
            yield "", _capture(model, layers.blocks[""], calls)[0]
            return
        states, arguments = _first_inputs(model, names[0], ids)
        for name in names:
            block = model.get_submodule(name)
            captured, outputs = _capture(model, layers.blocks[name], [_block_call(block, s, arguments) for s in states])
            yield name, captured
            if rerun:
                outputs = [_block_call(block, s, arguments)() for s in states]
            states = [o[0] if isinstance(o, tuple) else o for o in outputs]
    finally:
        model.train(was_training)


def _model_call(model: nn.Module, window: Tensor) -> Callable[[], Any]:
    return lambda: model(window)


def _block_call(block: nn.Module, state: Tensor, arguments: Arguments) -> Callable[[], Any]:
    rest, keywords = arguments
    return lambda: block(state, *rest, **keywords)


class _Stop(Exception):
    """Ends a forward pass at the first block."""


def _first_inputs(model: nn.Module, first: str, ids: Tensor) -> tuple[list[Tensor], Arguments]:
    """The hidden states that enter the first block, a window each, and the other arguments (masks, positions), which
    are the same for all windows."""
    states: list[Tensor] = []
    arguments: list[Arguments] = []

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states.append(args[0] if args else kwargs["hidden_states"])
        rest = {k: v for k, v in kwargs.items() if k != "hidden_states"}
        arguments.append((args[1:], rest))
        raise _Stop

    handle = model.get_submodule(first).register_forward_pre_hook(hook, with_kwargs=True)
    try:
        for window in ids.split(1):
            try:
                model(input_ids=window, use_cache=False)
            except _Stop:
                continue
    finally:
        handle.remove()
    return states, arguments[0]


def _capture(
    model: nn.Module, linears: tuple[str, ...], calls: list[Callable[[], Any]]
) -> tuple[dict[str, Tensor], list[Any]]:
    """Makes the calls and sums up the Hessians of what enters the linears. Linears that get the same tensor share one:
    which do is seen in the first call."""
    inputs: dict[str, Tensor] = {}
    leader: dict[str, str] = {}
    sums: dict[str, HessianSum] = {}
    first = True

    def make_hook(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            x = args[0]
            if first:
                # kept alive until the call ends, so that an address cannot be another tensor's
                inputs[name] = x
                same = (n for n, other in inputs.items() if n not in leader or leader[n] == n)
                hadamard = getattr(module, "hadamard", 0)
                leader[name] = next((n for n in same if n != name and inputs[n] is x and not hadamard), name)
            if leader[name] != name:
                return
            if getattr(module, "hadamard", 0):
                x = rotate(x, module.hadamard, module.sign)  # type: ignore[arg-type]
            sums.setdefault(name, HessianSum(x.shape[-1])).add(x)

        return hook

    handles = [model.get_submodule(n).register_forward_pre_hook(make_hook(n)) for n in linears]
    outputs = []
    try:
        for call in calls:
            outputs.append(call())
            first = False
            inputs.clear()
    finally:
        for handle in handles:
            handle.remove()
    matrices = {name: s.matrix() for name, s in sums.items()}
    return {name: matrices[leader[name]] for name in linears if name in leader}, outputs
