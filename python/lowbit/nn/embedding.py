"""The quantized embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lowbit.nn.weight import QuantWeight

_embedding = torch.ops.lowbit.embedding.default


class QuantEmbedding(nn.Module):
    """Rows of a quantized table; shares its weight with the head of a tied model.

    Args:
        weight: [num_embeddings, embedding_dim].
        dtype: of the result; follows ``to(dtype)``.
        padding_idx: kept for those who ask; rows are all treated alike.

    Shapes: ids [...] int64 -> [..., embedding_dim].
    """

    def __init__(
        self, weight: QuantWeight, *, dtype: torch.dtype = torch.float32, padding_idx: int | None = None
    ) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = weight.shape
        self.weight = weight
        self.padding_idx = padding_idx
        # an empty tensor: it is told the model's dtype by to()
        self.register_buffer("like", torch.empty(0, dtype=dtype), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        weight = self.weight
        parts = weight._buffers
        return _embedding(
            ids,
            parts["codes"],
            parts["scale"],
            parts["zero"],
            weight.format,
            self.embedding_dim,
            scale2=parts["scale2"],
            table=parts["table"],
            out_dtype=self.like.dtype,
        )

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"
