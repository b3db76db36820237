"""lowbit: low-bit kernels for PyTorch."""

from lowbit import library

library.load()

from lowbit import ops  # noqa: E402
from lowbit.capabilities import capabilities  # noqa: E402
from lowbit.formats import formats  # noqa: E402

__all__ = ["capabilities", "formats", "ops"]
