"""A language model of the Llama kind as a plain loop over its layers, for times with little Python in them.

Linears are called as they come; all else is torch in float32. Queries and keys have the elements of a rotation next to
each other, as model files of llama.cpp hold them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Linear = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Shape:
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head: int
    inner: int
    vocabulary: int
    epsilon: float
    base: float


@dataclass(frozen=True)
class Layer:
    """qkv, gate_up: projections of one input are one linear, their rows below each other."""

    norm: Tensor
    qkv: Linear
    out: Linear
    inner_norm: Tensor
    gate_up: Linear
    down: Linear


class Decoder:
    """Reads a prompt, then one token after the other. length: tokens that its cache holds; prompt_dtype: what attention
    within the prompt is computed in."""

    def __init__(
        self,
        shape: Shape,
        embedding: Linear,
        layers: list[Layer],
        norm: Tensor,
        logits: Linear,
        length: int,
        prompt_dtype: torch.dtype = torch.float32,
    ):
        self.shape, self.embedding, self.layers, self.norm, self.logits = shape, embedding, layers, norm, logits
        self.prompt_dtype = prompt_dtype
        # keys and values of a token lie beside each other, as its projection has them
        self.caches = [torch.zeros(length, 2 * shape.kv_heads, shape.head) for _ in layers]
        self.by_head = [cache.transpose(0, 1)[None] for cache in self.caches]
        angles = torch.outer(torch.arange(length), shape.base ** -(torch.arange(0, shape.head, 2) / shape.head))
        self.turns = torch.polar(torch.ones_like(angles), angles).unsqueeze(1)

    @torch.inference_mode()
    def __call__(self, ids: Tensor, position: int) -> Tensor:
        """Logits [vocabulary] after the last of the ids, which stand from `position` on: one, or a prompt from 0."""
        shape, count, end = self.shape, len(ids), position + len(ids)
        heads, rotated = shape.heads, shape.heads + shape.kv_heads
        x, turns = self.embedding(ids), self.turns[position:end]
        normed, attended = (self._normed_one, self._attended_one) if count == 1 else (self._normed, self._attended)
        for layer, cache, by_head in zip(self.layers, self.caches, self.by_head, strict=True):
            qkv = layer.qkv(normed(x, layer.norm)).view(count, -1, shape.head)
            torch.view_as_complex(qkv[:, :rotated].view(count, rotated, -1, 2)).mul_(turns)
            cache[position:end] = qkv[:, heads:]
            x = x.add_(layer.out(attended(qkv, by_head, end)))
            gate, up = layer.gate_up(normed(x, layer.inner_norm)).chunk(2, -1)
            x = x.add_(layer.down(F.silu(gate, inplace=True).mul_(up)))
        return self.logits(self._normed(x[-1:], self.norm))[0]

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self.shape.epsilon)

    def _normed_one(self, x: Tensor, weight: Tensor) -> Tensor:
        """Of one token: what rms_norm computes, in three calls."""
        row = x[0]
        mean = float(torch.dot(row, row)) / len(row)
        return x * (weight * (mean + self.shape.epsilon) ** -0.5)

    def _attended(self, qkv: Tensor, by_head: Tensor, end: int) -> Tensor:
        """[tokens, heads * head] of a prompt, whose keys and values are all its own."""
        heads, kv_heads = self.shape.heads, self.shape.kv_heads
        q, k, v = qkv.to(self.prompt_dtype).transpose(0, 1)[None].split((heads, kv_heads, kv_heads), 1)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return out[0].transpose(0, 1).reshape(end, -1).float()

    def _attended_one(self, qkv: Tensor, by_head: Tensor, end: int) -> Tensor:
        """[1, heads * head] of a token: its queries that share a key are as many queries of one head."""
        kv_heads = self.shape.kv_heads
        q = qkv[0, : self.shape.heads].view(1, kv_heads, -1, self.shape.head)
        keys, values = by_head[:, :, :end].split(kv_heads, 1)
        return F.scaled_dot_product_attention(q, keys, values).view(1, -1)
