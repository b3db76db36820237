"""Small models, made on the spot."""

import torch
from torch import nn


def tiny_llama(
    *, tied: bool = True, hidden: int = 96, mlp: int = 160, layers: int = 2, seed: int = 0, **config
) -> nn.Module:
    """A Llama of random weights: three heads, one of keys and values, a few channels of the stream that stand out."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    settings = {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "vocab_size": 128,
        "tie_word_embeddings": tied,
        "max_position_embeddings": 64,
        "initializer_range": 0.15,
    }
    model = LlamaForCausalLM(LlamaConfig(**settings | config))
    with torch.no_grad():
        for norm in [m for m in model.modules() if type(m).__name__ == "LlamaRMSNorm"]:
            norm.weight.uniform_(0.5, 1.5)
            norm.weight[::17] *= 6
    return model.eval().requires_grad_(False)


def token_ids(sequences: int = 8, length: int = 32, seed: int = 1) -> torch.Tensor:
    """Random tokens of `tiny_llama`."""
    return torch.randint(0, 128, (sequences, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    return model(input_ids=ids).logits


def relative(got: torch.Tensor, want: torch.Tensor) -> float:
    """Norm of the difference, relative."""
    return float((got.double() - want.double()).norm() / want.double().norm())
