"""Quantized modules."""

from torch import nn


class QuantWeight(nn.Module):
    rows: int
    cols: int
    nbytes: int
