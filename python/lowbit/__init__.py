"""lowbit: low-bit kernels for PyTorch."""

from pathlib import Path

import torch

torch.ops.load_library(str(Path(__file__).parent / "_ops.so"))
