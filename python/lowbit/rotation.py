"""The Hadamard rotation of a whole model (``algorithms/transform/hadamard_rotation.py`` on every layer)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lowbit.algorithms.transform.hadamard_rotation import fold_norm, random_signs, rotate_input, rotate_output
from lowbit.config import HadamardRotation
from lowbit.layers import Layers
from lowbit.nn import Edits, RotatedLinear, Unrotate

# blocks of this make: RMSNorm before attention and MLP, gated MLP, no norm at the end of either
_KNOWN = ("llama", "mistral", "qwen2", "qwen3")


def apply_rotation(edits: Edits, layers: Layers, config: HadamardRotation) -> None:
    """Rotates ``edits.model``: the same function in full precision, without channels that stand out.

    The residual stream is carried rotated: embedding and the projections into the stream rotate their outputs, norms
    are folded into the linears that read them, which rotate their inputs. The values of a head are rotated on the way
    from v_proj to o_proj. All of this is in the weights; rotated while running are the inputs of down_proj, and the
    stream once before the last norm and once before the head, so that a head tied to the embedding stays tied.

    Raises:
        ValueError: a model of another make, or a width without a Hadamard matrix; the model is then as it was.
    """
    model: Any = edits.model
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if kind not in _KNOWN or layers.head is None or layers.embedding is None:
        raise ValueError(
            f"rotate: model must be one of {', '.join(_KNOWN)} with embedding and head, got {kind}; "
            "choose a recipe without a transform"
        )
    decoder = model.get_decoder()
    width, head_dim = model.config.hidden_size, model.model.layers[0].self_attn.head_dim
    for size in {width, head_dim, model.config.intermediate_size}:
        rotate_input(torch.zeros(1, size))  # a width without a Hadamard matrix is refused before anything is changed
    sign = random_signs(width, config.seed)

    def put(linear: nn.Linear, weight: Tensor) -> None:
        edits.set_parameter(linear, "weight", weight.to(linear.weight.dtype))

    def online(linear: nn.Linear, block: int, sign: Tensor | None) -> None:
        edits.replace(linear, RotatedLinear(linear.weight, linear.bias, block, sign))  # type: ignore[arg-type]

    with torch.no_grad():
        for block in decoder.layers:
            attention, mlp = block.self_attn, block.mlp
            for norm, readers in (
                (block.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj)),
                (block.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj)),
            ):
                for linear in readers:
                    put(linear, rotate_input(fold_norm(linear.weight.float(), norm.weight.float()), sign))
                edits.set_parameter(norm, "weight", torch.ones_like(norm.weight))
            put(attention.v_proj, rotate_output(attention.v_proj.weight.float(), block=head_dim))
            if attention.v_proj.bias is not None:
                bias = rotate_output(attention.v_proj.bias.float().unsqueeze(1), block=head_dim).squeeze(1)
                edits.set_parameter(attention.v_proj, "bias", bias.to(attention.v_proj.bias.dtype))
            put(attention.o_proj, rotate_input(attention.o_proj.weight.float(), block=head_dim))
            put(mlp.down_proj, rotate_input(mlp.down_proj.weight.float()))
            for linear in (attention.o_proj, mlp.down_proj):
                put(linear, rotate_output(linear.weight.float(), sign))
                if linear.bias is not None:
                    bias = rotate_output(linear.bias.float().unsqueeze(1), sign).squeeze(1)
                    edits.set_parameter(linear, "bias", bias.to(linear.bias.dtype))
            online(mlp.down_proj, mlp.down_proj.in_features, None)

        embedding, head = model.get_submodule(layers.embedding), model.get_submodule(layers.head)
        table = rotate_input(embedding.weight.float(), sign).to(embedding.weight.dtype)
        edits.set_parameter(embedding, "weight", table)
        if layers.tied:
            edits.set_parameter(head, "weight", embedding.weight)
        else:
            put(head, rotate_input(head.weight.float(), sign))
        online(head, width, sign)
        edits.replace(decoder.norm, Unrotate(decoder.norm, width, sign.clone()))
