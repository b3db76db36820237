"""lowbit: low-bit kernels for PyTorch."""

from lowbit import library

library.load()
library.cuda()

from lowbit import nn, ops, recipes  # noqa: E402
from lowbit.accounting import measure  # noqa: E402
from lowbit.calibration import Statistics, calibrate  # noqa: E402
from lowbit.capabilities import capabilities  # noqa: E402
from lowbit.checkpoint import load, save  # noqa: E402
from lowbit.config import Recipe  # noqa: E402
from lowbit.formats import formats  # noqa: E402
from lowbit.library import check_values  # noqa: E402
from lowbit.quantization import Report, quantize  # noqa: E402
from lowbit.tensor import QuantTensor  # noqa: E402

__all__ = [
    "QuantTensor",
    "Recipe",
    "Report",
    "Statistics",
    "calibrate",
    "capabilities",
    "check_values",
    "formats",
    "load",
    "measure",
    "nn",
    "ops",
    "quantize",
    "recipes",
    "save",
]
