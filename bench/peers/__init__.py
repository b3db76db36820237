"""The libraries that products and transforms are compared with, one file each.

A file has `library()`, which imports the library, so that one that is not installed is an error there that `missing`
names, and `candidates(problem)`, which yields what the library offers for a weight of that width: nothing where it has
no such width. A candidate says the weight it computes with, as float32: its result is compared with that before it is
timed. A file of TRANSFORMS has `transforms(n, threads)` instead, which yields Hadamard transforms of rows of n floats.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module

import torch
from ceilings import PROBE_BYTES
from lowbit import microbench
from torch import Tensor

FILES = (
    "torch_linear", "torch_ops", "onnxruntime", "openvino", "llama_cpp", "ik_llama_cpp", "bitsandbytes", "zentorch",
    "torchao",
)  # fmt: skip
TRANSFORMS = ("ffht",)


def widest(bits: int) -> int:
    """Of the weights that may stand beside one of `bits` bits: below 4 bits one more at most, beyond 4 those of 8."""
    return min(bits + 1, 4) if bits <= 4 else 8


# the turn of the call whose result is compared; its time does not count
CHECK = -1


def copy_count() -> int:
    """Copies of a weight that a candidate rotates among: while M = 1 each round reads PROBE_BYTES for its probe, so
    that between two turns of a copy, also where one leads the next round's, more than the caches hold went through
    them."""
    return microbench.cache_bytes() // PROBE_BYTES + 3


@dataclass(frozen=True)
class Problem:
    """A float32 weight [N, K] that peers quantize to `bits`, with a scale for `group` columns (0: for a row)."""

    dense: Tensor
    bits: int
    group: int
    threads: int

    def copies(self, t: Tensor) -> list[Tensor]:
        return [t.clone() for _ in range(copy_count())]


@dataclass(frozen=True)
class Candidate:
    """bind(x) takes float32 activations and returns the call, which is given the number of its turn."""

    name: str
    activation: str  # what it computes with: fp32, bf16 or int8
    dense: Tensor
    bytes: int
    bind: Callable[[Tensor], Callable[[int], Tensor]]


@dataclass
class Found:
    """What one file offers for weights of `narrowest` to `bits` bits: it has none between. `warm`: names of candidates
    whose copies were all called once."""

    narrowest: int
    bits: int
    candidates: list[Candidate] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)  # name of a file or candidate: why it is not timed
    warm: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Transform:
    """call(x) transforms the rows of a contiguous float32 matrix, unscaled, in natural order; in place: x itself."""

    name: str
    in_place: bool
    call: Callable[[Tensor], Tensor]


def missing(files: tuple[str, ...] = FILES + TRANSFORMS) -> dict[str, str]:
    """Files whose library does not import, and why: asked of the environment that runs, whatever was installed."""
    found = {}
    for file in files:
        try:
            import_module(f"peers.{file}").library()
        except Exception as error:  # of foreign code
            found[file] = first_line(error)
    return found


def first_line(error: Exception) -> str:
    """The name of an error of foreign code and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def collect_transforms(
    n: int, threads: int, files: tuple[str, ...] = TRANSFORMS
) -> tuple[list[Transform], dict[str, str]]:
    """All transforms of rows of n, and why files have none."""
    found: list[Transform] = []
    refused = {}
    for file in files:
        try:
            found += import_module(f"peers.{file}").transforms(n, threads)
        except Exception as error:  # of foreign code
            refused[file] = first_line(error)
    return found, refused


def collect(problem: Problem, file: str) -> Found:
    """Those of the width itself, or of the next wider one that the library has, up to `widest`. One that is not
    installed, or fails while it prepares, is named with its first line."""
    most = widest(problem.bits)
    found = Found(problem.bits, problem.bits)
    try:
        module = import_module(f"peers.{file}")
        for bits in range(problem.bits, most + 1):
            with torch.inference_mode():
                found.candidates = list(module.candidates(replace(problem, bits=bits)))
            if found.candidates:
                found.bits = bits
                break
    # a peer is foreign code: whatever it raises is a line of the results, not the end of the run
    except Exception as error:
        found.missing[file] = first_line(error)
    return found


def symmetric(dense: Tensor, bits: int, group: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes int8 [N, K], scales [N, groups] and the weight that they stand for."""
    n, k = dense.shape
    blocks = dense.reshape(n, -1, group or k)
    scale = blocks.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    codes = (blocks / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return codes.reshape(n, k).to(torch.int8), scale.squeeze(-1), (codes * scale).reshape(n, k)
