"""Loads the op libraries, once, before anything else of the package: the CPU's, and CUDA's where torch has CUDA."""

import ctypes
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

FILE = Path(__file__).parent / "_ops.so"
CUDA_FILE = Path(__file__).parent / "_cuda.so"
CUDA_MAJOR = 13  # of the runtime that the kernels are linked with
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


@dataclass(frozen=True)
class Cuda:
    """What a library of CUDA kernels tells of itself.

    archs: those it has machine code for, as LOWBIT_CUDA_ARCHS names them. engines: for each, what multiplies there.
    kernels: the entries of the kernel table that CUDA serves; ops of the others refuse CUDA tensors.
    """

    archs: tuple[str, ...]
    engines: dict[str, tuple[str, ...]]
    kernels: tuple[str, ...]

    @classmethod
    def of(cls, file: Path) -> "Cuda":
        """Asks the library; no device is needed for it."""
        library = ctypes.CDLL(str(file))

        def words(name: str, *args: int) -> tuple[str, ...]:
            text = ctypes.create_string_buffer(1024)
            getattr(library, name)(*args, text, ctypes.c_int64(len(text)))
            return tuple(text.value.decode().split())

        archs = words("lowbit_cuda_built")
        engines = {arch: words("lowbit_cuda_engines", index) for index, arch in enumerate(archs)}
        return cls(archs, engines, words("lowbit_cuda_served"))


def load_cuda(file: Path = CUDA_FILE, cuda: str | None = torch.version.cuda) -> tuple[Cuda | None, str]:
    """Registers the CUDA kernels of the ops: what they are, or None and the sentence that says why there are none.
    A library that torch has CUDA for and that does not load is a warning as well: the ops go on without it."""
    if cuda is None:
        return None, f"this torch ({torch.__version__}) has no CUDA"
    if not file.exists():
        return None, "this build has no CUDA kernels; rebuild with an nvcc on the PATH: pip install --no-deps ."
    try:
        if int(cuda.split(".")[0]) != CUDA_MAJOR:
            raise OSError(f"the kernels are linked with CUDA {CUDA_MAJOR}")
        torch.ops.load_library(str(file))
        return Cuda.of(file), ""
    except (OSError, AttributeError) as error:
        sentence = (
            f"lowbit: the CUDA kernels must load into torch {torch.__version__} with CUDA {cuda}, got: "
            f"{error.__cause__ or error}; CUDA tensors are refused until a torch with CUDA {CUDA_MAJOR} is used or "
            "lowbit is rebuilt"
        )
        warnings.warn(sentence, UserWarning, stacklevel=2)
        return None, sentence


@cache
def cuda() -> tuple[Cuda | None, str]:
    """load_cuda() of this process, once."""
    return load_cuda()


def check_values(file: Path = CUDA_FILE) -> None:
    """Waits for the GPUs and raises what kernels found in values since the last look: an x that is not finite, a code
    of another format, an id that is no row. The ops themselves do not wait for it: the next call of an op that looks at
    values raises what was found by then.

    Raises:
        ValueError: the sentence of the op that found something.
    """
    if file == CUDA_FILE and cuda()[0] is None:
        return
    text = ctypes.create_string_buffer(1024)
    if ctypes.CDLL(str(file)).lowbit_cuda_check_values(text, ctypes.c_int64(len(text))) != 0:
        raise ValueError(text.value.decode())
