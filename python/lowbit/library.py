"""Loads the op library, once, before anything else of the package."""

from pathlib import Path

import torch

FILE = Path(__file__).parent / "_ops.so"
OLDEST_TORCH = (2, 11)  # the first whose stable ABI has every dtype that the ops take


def torch_version(text: str) -> tuple[int, int]:
    """The (major, minor) of a torch version such as "2.13.0+cpu"."""
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def load(file: Path = FILE, installed: str = torch.__version__) -> None:
    """Registers `torch.ops.lowbit.*`. Raises ImportError when the library or a new enough torch is missing."""
    oldest = ".".join(map(str, OLDEST_TORCH))
    if torch_version(installed) < OLDEST_TORCH:
        raise ImportError(
            f"lowbit: torch must be {oldest} or newer, got {installed}; upgrade it: pip install 'torch>={oldest}'"
        )
    if not file.exists():
        raise ImportError(
            f"lowbit: the op library must lie beside the package, got no {file}; build it: pip install . "
            "in the source tree (pip install --no-build-isolation -e . to work on it)"
        )
    try:
        torch.ops.load_library(str(file))
    except OSError as error:
        raise ImportError(
            f"lowbit: the op library must load into torch {installed}, got: {error}; "
            "rebuild it against this torch: pip install --force-reinstall --no-deps ."
        ) from error
