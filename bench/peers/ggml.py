"""ggml's CPU backend by ctypes: products of one node, weights quantized by ggml. llama.cpp and its fork share it.

A package carries libggml and what that needs in one folder. Only functions of ggml's public headers are called; the
numbers of its types are fixed, since they stand in model files.

    python -m peers.ggml <package> <buffer type> <number of a type> ...

computes a product of each type with weights in buffers of that type, and ends as well as the library does.
"""

import ctypes
import importlib.util
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ctypes import c_bool, c_char_p, c_float, c_int, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from peers import Candidate, Problem, copy_count

F32 = 0
PLAIN = "CPU"
# of `buffer` in struct ggml_tensor, after the type and its padding
BUFFER_OFFSET = 8
METADATA_BYTES = 1 << 20
SUCCESS = 0
# quantized, and laid one below the other until they fill a weight: the searches of the K types take longer for a whole
# weight than all that is timed, and no product takes another time for other values
ROWS = 512
# where all of ggml computes: it configures the tiles of AMX once a thread, and other libraries configure them anew
THREAD = ThreadPoolExecutor(1, "ggml")

FUNCTIONS: dict[str, tuple[object, tuple[object, ...]]] = {
    "ggml_row_size": (c_size_t, (c_int, c_int64)),
    "ggml_blck_size": (c_int64, (c_int,)),
    "ggml_quantize_requires_imatrix": (c_bool, (c_int,)),
    "ggml_quantize_chunk": (c_size_t, (c_int, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p)),
    "ggml_new_tensor_2d": (c_void_p, (c_void_p, c_int, c_int64, c_int64)),
    "ggml_mul_mat": (c_void_p, (c_void_p, c_void_p, c_void_p)),
    "ggml_new_graph_custom": (c_void_p, (c_void_p, c_size_t, c_bool)),
    "ggml_build_forward_expand": (None, (c_void_p, c_void_p)),
    "ggml_get_data": (c_void_p, (c_void_p,)),
    "ggml_free": (None, (c_void_p,)),
    "ggml_backend_cpu_init": (c_void_p, ()),
    "ggml_backend_cpu_set_n_threads": (None, (c_void_p, c_int)),
    "ggml_backend_cpu_buffer_type": (c_void_p, ()),
    "ggml_backend_buft_name": (c_char_p, (c_void_p,)),
    "ggml_backend_buft_alloc_buffer": (c_void_p, (c_void_p, c_size_t)),
    "ggml_backend_alloc_ctx_tensors_from_buft": (c_void_p, (c_void_p, c_void_p)),
    "ggml_backend_tensor_set": (None, (c_void_p, c_void_p, c_size_t, c_size_t)),
    "ggml_backend_graph_compute": (c_int, (c_void_p, c_void_p)),
    "ggml_backend_buffer_free": (None, (c_void_p,)),
    "ggml_backend_free": (None, (c_void_p,)),
}
LOG = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)
# a fork of 2024 has no devices, hence no buffer types beside the plain one
DEVICES: dict[str, tuple[object, tuple[object, ...]]] = {
    "ggml_backend_cpu_reg": (c_void_p, ()),
    "ggml_backend_reg_dev_get": (c_void_p, (c_void_p, c_size_t)),
    "ggml_backend_reg_get_proc_address": (c_void_p, (c_void_p, c_char_p)),
    "ggml_backend_dev_supports_op": (c_bool, (c_void_p, c_void_p)),
}


class Apart:
    """A call in THREAD. seconds: of its last turn, without the way there and back."""

    def __init__(self, call: Callable[[int], Tensor]):
        self._call = call
        self.seconds = 0.0

    def __call__(self, turn: int) -> Tensor:
        return THREAD.submit(self._timed, turn).result()

    def _timed(self, turn: int) -> Tensor:
        start = time.perf_counter()
        result = self._call(turn)
        self.seconds = time.perf_counter() - start
        return result


class InitParams(ctypes.Structure):
    _fields_ = (("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool))


class TypeTraits(ctypes.Structure):
    """The fields that ggml_get_type_traits and the fork's ggml_internal_get_type_traits begin with."""

    _fields_ = (
        ("type_name", c_char_p),
        ("block", c_int64),
        ("block_interleave", c_int64),
        ("type_size", c_size_t),
        ("is_quantized", c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_int64)),
    )


class WholeTraits(TypeTraits):
    """The fork returns its traits by value: room for the fields that follow, and for those of later versions."""

    _fields_ = (("rest", c_void_p * 32),)


@dataclass(frozen=True)
class Type:
    """Of weights. rows_of: the type whose rows this one holds interleaved, which alone can be read back. ternary: one
    that holds what is ternary already, exactly."""

    name: str
    number: int
    rows_of: int | None = None
    ternary: bool = False


class Ggml:
    """The functions of one libggml."""

    def __init__(self, package: str, path: Path):
        self.package = package
        self._library = ctypes.CDLL(str(path))
        for name, (result, arguments) in FUNCTIONS.items():
            self._declare(name, result, arguments)
        self.ggml_init = self._library.ggml_init
        self.ggml_init.restype, self.ggml_init.argtypes = c_void_p, [InitParams]
        self._silent = LOG(lambda level, text, data: None)
        if hasattr(self._library, "ggml_log_set"):
            self._library.ggml_log_set(self._silent, None)
        # of the build, not of the processor
        self.has_avx512 = bool(self._library.ggml_cpu_has_avx512())
        self.has_devices = hasattr(self._library, "ggml_backend_cpu_reg")
        if self.has_devices:
            for name, (result, arguments) in DEVICES.items():
                self._declare(name, result, arguments)

    def _declare(self, name: str, result: object, arguments: tuple[object, ...]) -> None:
        function = getattr(self._library, name)
        function.restype, function.argtypes = result, list(arguments)
        setattr(self, name, function)

    def __getattr__(self, name: str) -> Callable[..., object]:
        raise AttributeError(name)

    def traits(self, number: int) -> TypeTraits:
        if hasattr(self._library, "ggml_get_type_traits"):
            function = self._library.ggml_get_type_traits
            function.restype, function.argtypes = ctypes.POINTER(TypeTraits), [c_int]
            return function(number).contents
        function = self._library.ggml_internal_get_type_traits  # the fork of 2024
        function.restype, function.argtypes = WholeTraits, [c_int]
        return function(number)

    def quantize(self, dense: Tensor, number: int) -> Tensor:
        """The bytes of the rows of a contiguous float32 matrix."""
        n, k = dense.shape
        out = torch.empty(n * self.ggml_row_size(number, k), dtype=torch.uint8)
        written = self.ggml_quantize_chunk(number, dense.data_ptr(), out.data_ptr(), 0, n, k, None)
        if written != out.nbytes:
            raise ValueError(f"bytes of type {number} must be {out.nbytes}, got {written}")
        return out

    def dequantize(self, data: Tensor, number: int, n: int, k: int) -> Tensor:
        out = torch.empty(n, k)
        row, to_float = self.ggml_row_size(number, k), self.traits(number).to_float
        for i in range(n):
            to_float(data.data_ptr() + i * row, out[i].data_ptr(), k)
        return out

    def buffer_types(self) -> dict[str, int]:
        """Those that lay weights out anew for the instructions of this machine, and the plain one last, by name."""
        found: list[int] = []
        if self.has_devices:
            registry = self.ggml_backend_cpu_reg()
            address = self.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_dev_get_extra_bufts")
            if address:
                listed = ctypes.CFUNCTYPE(ctypes.POINTER(c_void_p), c_void_p)(address)(self._device())
                index = 0
                while listed[index]:
                    found.append(listed[index])
                    index += 1
        found.append(self.ggml_backend_cpu_buffer_type())
        return {self.ggml_backend_buft_name(b).decode(): b for b in found}

    def takes(self, where: str, number: int, n: int, k: int) -> bool:
        """Whether a product can read weights of that type from such a buffer; asked, since filling one that cannot
        ends the process."""
        if where == PLAIN:
            return True
        context = self.ggml_init(InitParams(METADATA_BYTES, None, True))
        empty = self.ggml_backend_buft_alloc_buffer(self.buffer_types()[where], 0)
        try:
            weight = self.ggml_new_tensor_2d(context, number, k, n)
            node = self.ggml_mul_mat(context, weight, self.ggml_new_tensor_2d(context, F32, k, 512))
            c_void_p.from_address(weight + BUFFER_OFFSET).value = empty
            return bool(self.ggml_backend_dev_supports_op(self._device(), node))
        finally:
            self.ggml_backend_buffer_free(empty)
            self.ggml_free(context)

    def _device(self) -> int:
        return self.ggml_backend_reg_dev_get(self.ggml_backend_cpu_reg(), 0)


class Arena:
    """Tensors that are made in one context and lie in one buffer, until the arena is dropped."""

    def __init__(self, ggml: Ggml):
        self.ggml = ggml
        self.context = ggml.ggml_init(InitParams(METADATA_BYTES, None, True))
        weakref.finalize(self, ggml.ggml_free, self.context)

    def allocate(self, buffer_type: int) -> None:
        buffer = self.ggml.ggml_backend_alloc_ctx_tensors_from_buft(self.context, buffer_type)
        if not buffer:
            raise MemoryError("no memory for the tensors of ggml")
        weakref.finalize(self, self.ggml.ggml_backend_buffer_free, buffer)


class Product:
    """Weights in copies, and a graph of one product for each."""

    def __init__(
        self, ggml: Ggml, number: int, data: Tensor, shape: tuple[int, int], where: str, threads: int, copies: int
    ):
        self.ggml, self.shape = ggml, shape
        self.weights = Arena(ggml)
        n, k = shape
        self.copies = [ggml.ggml_new_tensor_2d(self.weights.context, number, k, n) for _ in range(copies)]
        self.weights.allocate(ggml.buffer_types()[where])
        for copy in self.copies:
            ggml.ggml_backend_tensor_set(copy, data.data_ptr(), 0, data.nbytes)
        self.backend = ggml.ggml_backend_cpu_init()
        weakref.finalize(self, ggml.ggml_backend_free, self.backend)
        ggml.ggml_backend_cpu_set_n_threads(self.backend, threads)

    def bind(self, x: Tensor) -> Callable[[int], Tensor]:
        ggml, (n, k), m = self.ggml, self.shape, x.shape[0]
        arena = Arena(ggml)
        given = ggml.ggml_new_tensor_2d(arena.context, F32, k, m)
        nodes = [ggml.ggml_mul_mat(arena.context, copy, given) for copy in self.copies]
        arena.allocate(ggml.ggml_backend_cpu_buffer_type())
        x = x.contiguous()
        ggml.ggml_backend_tensor_set(given, x.data_ptr(), 0, x.nbytes)
        graphs, results = [], []
        for node in nodes:
            graph = ggml.ggml_new_graph_custom(arena.context, 8, False)
            ggml.ggml_build_forward_expand(graph, node)
            graphs.append(graph)
            memory = (c_float * (m * n)).from_address(ggml.ggml_get_data(node))
            results.append(torch.frombuffer(memory, dtype=torch.float32).reshape(m, n))
        compute, backend = ggml.ggml_backend_graph_compute, self.backend

        def call(turn: int) -> Tensor:
            which = turn % len(graphs)
            status = compute(backend, graphs[which])
            if status != SUCCESS:
                raise RuntimeError(f"ggml_backend_graph_compute returned {status}")
            return results[which]

        call.holds = (arena, self)  # type: ignore[attr-defined]
        return Apart(call)


@cache
def load(package: str) -> Ggml:
    """The library of an installed package, without importing that."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"No module named {package!r}")
    return Ggml(package, Path(found.origin).parent / "lib" / "libggml.so")


@cache
def fault(package: str, where: str, numbers: tuple[int, ...]) -> str:
    """What becomes of a process that computes with weights in such buffers; empty: it ends well. Compilers have made
    code of these libraries that faults (gcc 12.2 drops stores of the tile configuration that AMX reads), which would
    end the suite."""
    if where == PLAIN:
        return ""
    done = subprocess.run(
        [sys.executable, "-m", "peers.ggml", package, where, *map(str, numbers)],
        cwd=Path(__file__).resolve().parent.parent, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode < 0:
        return f"a product ends the process with signal {-done.returncode}"
    return (done.stderr.splitlines() or [f"exit {done.returncode}"])[-1] if done.returncode else ""


def candidates(ggml: Ggml, library: str, types: dict[int, tuple[Type, ...]], problem: Problem) -> Iterator[Candidate]:
    """A product of each type of the width whose blocks fit, from the first kind of buffers that takes it."""
    n, k = problem.dense.shape
    library += "" if ggml.has_avx512 else " for AVX2"
    numbers = tuple(kind.number for of_width in types.values() for kind in of_width)
    for kind in types.get(problem.bits, ()):
        if k % ggml.ggml_blck_size(kind.number) or ggml.ggml_quantize_requires_imatrix(kind.number):
            continue
        dense, data = _quantized(ggml, kind, problem.dense[:ROWS].contiguous())
        data = repeated(data.reshape(-1, ggml.ggml_row_size(kind.number, k)), n)
        dense = repeated(dense, n)
        for where in (w for w in ggml.buffer_types() if ggml.takes(w, kind.number, n, k)):
            name = f"{library} {kind.name}" + (f" ({where})" if where != PLAIN else "")
            why = fault(ggml.package, where, numbers)
            if why:
                yield Candidate(name, "int8", dense, data.nbytes, partial(_refuse, why))
                continue
            product = Product(ggml, kind.number, data, (n, k), where, problem.threads, copy_count())
            yield Candidate(name, "int8", dense, data.nbytes, product.bind)
            break


def _refuse(why: str, x: Tensor) -> Callable[[int], Tensor]:
    raise RuntimeError(why)


def _quantized(ggml: Ggml, kind: Type, dense: Tensor) -> tuple[Tensor, Tensor]:
    """What rows stand for, and their bytes."""
    if kind.ternary:
        scale = dense.abs().mean(-1, keepdim=True).half().float()
        dense = scale * (dense / scale).round().clamp(-1, 1)
        return dense, ggml.quantize(dense, kind.number)
    data = ggml.quantize(dense, kind.number)
    if kind.rows_of is None:
        return ggml.dequantize(data, kind.number, *dense.shape), data
    return ggml.dequantize(ggml.quantize(dense, kind.rows_of), kind.rows_of, *dense.shape), data


def repeated(rows: Tensor, n: int) -> Tensor:
    return rows.repeat(-(-n // len(rows)), 1)[:n].contiguous()


def main() -> None:
    package, where, *numbers = sys.argv[1:]
    ggml, n, k = load(package), 64, 512
    for number in map(int, numbers):
        if not ggml.takes(where, number, n, k):
            continue
        data = ggml.quantize(torch.randn(n, k), number)
        product = Product(ggml, number, data, (n, k), where, 1, copies=1)
        for m in (1, 5):
            product.bind(torch.randn(m, k))(0)


if __name__ == "__main__":
    main()
