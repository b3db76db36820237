"""``lowbit.save`` and ``lowbit.load``: a quantized model as a folder.

The folder holds ``lowbit.safetensors`` (tensors in canonical layouts; the header tells formats, recipe and layout
version), transformers' ``config.json`` and ``generation_config.json``, and the tokenizer's files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch import nn

FILE = "lowbit.safetensors"


def is_checkpoint(folder: str | os.PathLike[str]) -> bool:
    """Whether `folder` is one that `save` wrote."""
    return (Path(folder) / FILE).is_file()


def save(model: nn.Module, folder: str | os.PathLike[str], *, tokenizer: Any = None) -> None:
    """Writes a quantized model to `folder`. Files are written beside the old ones and renamed at the end.

    Raises:
        ValueError: the model is not quantized, or `folder` holds something else.
        OSError: the disk is full, or another failure to write; what was there before is left as it was.
    """
    raise NotImplementedError


def load(folder: str | os.PathLike[str], *, into: nn.Module | None = None) -> nn.Module:
    """Reads a quantized model from `folder`, in eval mode.

    Args:
        into: a model of the same structure that is not quantized, to be filled; needed where the model is not one of
            transformers.

    Raises:
        FileNotFoundError: `folder` is no checkpoint.
        ValueError: the file is truncated, corrupted, of a newer version, or does not fit the model.
    """
    raise NotImplementedError
