"""How far a chain of mma.sync may be from the exact sum: csrc/emu/numerics/bound.h, where the formula is derived."""

import ctypes
from collections.abc import Callable
from functools import cache

from emu.toolchain import build_emulator

MODELS = ("exact", "hardware")


@cache
def _formula() -> Callable[..., float]:
    """Asked of the library itself, whoever answers the runtime's calls in this process: on a GPU another does."""
    function = ctypes.CDLL(str(build_emulator())).emu_mma_error_bound
    function.restype = ctypes.c_double
    function.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_int] * 3 + [ctypes.c_double] * 2
    return function


def error_bound(
    arch: str,
    operand: str,
    model: str,
    *,
    k: int,
    steps: int,
    magnitude: float,
    nominal: float = 0.0,
    half: bool = False,
) -> float:
    """`operand`: f16, bf16, tf32, f8, f8f6f4, mxf8f6f4 or mxf4. `k` of one mma; `steps` of them add to one accumulator,
    f16 if `half`. `magnitude` >= sum |a b| + |c| over all of them. `nominal`: see ChainOfMma. Infinite where the
    chain is too long for the formula to say anything."""
    bound = _formula()(arch.encode(), operand.encode(), model.encode(), int(half), k, steps, magnitude, nominal)
    assert bound >= 0.0, f"no mma of {operand} under the model {model}"
    return bound
