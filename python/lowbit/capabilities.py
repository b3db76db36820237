"""What this build and this machine can do, as plain data."""

import platform
from importlib import metadata
from typing import Any

import torch

import lowbit._C as _C
from lowbit import library


def version() -> str:
    """The version of the installed package; "unknown" when it runs from a source tree that was not installed."""
    try:
        return metadata.version("lowbit")
    except metadata.PackageNotFoundError:
        return "unknown"


def capabilities() -> dict[str, Any]:
    """What runs here, for `lowbit info` and for callers that choose before they call.

    Returns:
        A dictionary that JSON can hold:
        version, torch: of the package and of the torch it runs in.
        machine: the processor architecture.
        isa: the ISA whose kernels this process runs. `LOWBIT_ISA` forces another one of `isas`.
        isas: those that this build has and this processor runs, best first; "ref" is always there.
        kernels: for each op of a kernel family, the ISAs that have a kernel of their own; the others run the reference.
        threads: of torch's pool, which the ops use.
        cuda: {"built": whether this build has CUDA kernels, "loaded": whether they are registered, "reason": why not,
            "archs": the architectures they were built for, "engines": for each of these what multiplies there,
            "kernels": the ops, as in `kernels`, that take CUDA tensors; the others refuse them}.
        formats: the names of the element formats. block_formats: those of the named block formats.
    """
    cuda, reason = library.cuda()
    return {
        "version": version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "isa": _C.isa(),
        "isas": _C.isa_list(),
        "kernels": _C.kernels(),
        "threads": torch.get_num_threads(),
        "cuda": {
            "built": library.CUDA_FILE.exists(),
            "loaded": cuda is not None,
            "reason": reason,
            "archs": list(cuda.archs) if cuda else [],
            "engines": {arch: list(names) for arch, names in cuda.engines.items()} if cuda else {},
            "kernels": list(cuda.kernels) if cuda else [],
        },
        "formats": [row["name"] for row in _C.element_formats()],
        "block_formats": [row["name"] for row in _C.block_formats()],
    }
