"""The ceilings of the machine, from bench/ceilings.cpp: what no kernel can be faster than.

`make bench` builds the library; `python bench/ceilings.py` prints what it measures.
"""

import ctypes
import json
import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIBRARY = Path(__file__).resolve().parent.parent / "build" / "cmake" / "ceilings.so"
# far beyond every cache
BYTES = 256 << 20
PROBE_BYTES = 128 << 20


class Ceilings:
    """The library, and rates that it measured: `rates[name][threads]`, operations or bytes a second. `lacking` names
    the instructions that this machine has not."""

    def __init__(self, library: Path = LIBRARY):
        if not library.is_file():
            raise FileNotFoundError(
                f"bench: library must be built, got no {library}; run make bench, or "
                f"cmake --build {library.parent} --target lowbit_ceilings"
            )
        self._library = ctypes.CDLL(str(library))
        self._library.lowbit_peak_name.restype = ctypes.c_char_p
        self._library.lowbit_peak.restype = ctypes.c_double
        self._library.lowbit_peak.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_double]
        self._library.lowbit_buffer.restype = ctypes.c_void_p
        self._library.lowbit_buffer.argtypes = [ctypes.c_int64, ctypes.c_int]
        self._library.lowbit_free_buffer.argtypes = [ctypes.c_void_p, ctypes.c_int64]
        for name in ("lowbit_read", "lowbit_copy"):
            function = getattr(self._library, name)
            function.restype, function.argtypes = ctypes.c_double, [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int]
        self.rates: dict[str, dict[int, float]] = {}
        self.lacking: list[str] = []

    def measure(self, threads: tuple[int, ...], seconds: float = 0.3, buffer_bytes: int = BYTES) -> None:
        """Every ceiling with each number of threads, `seconds` for an instruction."""
        index = 0
        while (name := self._library.lowbit_peak_name(index)) is not None:
            rates = {t: self._library.lowbit_peak(index, t, seconds) for t in threads}
            if all(rates.values()):
                self.rates[name.decode()] = rates
            else:
                self.lacking.append(name.decode())
            index += 1
        for pages in ("4k", "huge"):
            with self.buffer(buffer_bytes, pages) as buffer:
                for what, function, moved in (
                    ("read", self._library.lowbit_read, buffer_bytes),
                    ("copy", self._library.lowbit_copy, buffer_bytes // 2),
                ):
                    self.rates[f"{what}_{pages}"] = {
                        t: moved / statistics.median(function(buffer, buffer_bytes, t) for _ in range(7))
                        for t in threads
                    }

    @contextmanager
    def buffer(self, size: int, pages: str) -> Iterator[int]:
        buffer = self._library.lowbit_buffer(size, pages == "huge")
        if not buffer:
            raise MemoryError(f"bench: buffer must fit into memory, got {size} bytes; free some")
        try:
            yield buffer
        finally:
            self._library.lowbit_free_buffer(buffer, size)

    def read(self, buffer: int, size: int, threads: int) -> float:
        """Seconds to read the buffer once: the bandwidth probe between the calls of a row."""
        return float(self._library.lowbit_read(buffer, size, threads))

    def to_dict(self) -> dict[str, object]:
        rates = {name: {str(t): float(f"{r:.4g}") for t, r in of.items()} for name, of in self.rates.items()}
        return {"rates": rates, "lacking": self.lacking}


def thread_counts() -> tuple[int, ...]:
    """1 and 2, as far as this process may run on as many processors."""
    return (1, 2)[: len(os.sched_getaffinity(0))]


if __name__ == "__main__":
    ceilings = Ceilings()
    ceilings.measure(thread_counts())
    print(json.dumps(ceilings.to_dict(), indent=1))
