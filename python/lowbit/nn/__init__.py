"""Quantized modules, and the one function that swaps them in."""

from lowbit.nn.embedding import QuantEmbedding
from lowbit.nn.linear import QuantLinear
from lowbit.nn.rotated import RotatedLinear, Unrotate
from lowbit.nn.swap import Edits, QuantLayer, swap
from lowbit.nn.weight import QuantWeight

__all__ = [
    "Edits",
    "QuantEmbedding",
    "QuantLayer",
    "QuantLinear",
    "QuantWeight",
    "RotatedLinear",
    "Unrotate",
    "swap",
]
