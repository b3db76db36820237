"""How often each kernel of some cubins has each instruction, by nvdisasm. Unrolled loops repeat their instructions with
other registers: of a million some ten thousand are distinct, and only these are disassembled."""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# An instruction of sm_70 and later is 128 bits. What names no operation: the guard (bits 12 to 15), the
# registers at 16, 24 and 64 (255, the zero register, apart, by which IMAD.MOV and the like are told), and from 105 on
# when it issues.
GUARD = 0xF << 12
REGISTERS = ((0, 16), (0, 24), (1, 0))  # word and bit
OPERATION = (1 << 41) - 1
OPCODE = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)")


def sections(cubin: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """The kernels of an ELF file: mangled names and instructions, of two words each."""
    (headers,) = struct.unpack_from("<Q", cubin, 40)
    count, names = struct.unpack_from("<HH", cubin, 60)
    found = [struct.unpack_from("<IIQQQQIIQQ", cubin, headers + 64 * i) for i in range(count)]
    for name, _, _, _, offset, size, *_ in found:
        begin = found[names][4] + name
        text = cubin[begin : cubin.index(b"\0", begin)].decode()
        if text.startswith(".text."):
            yield text.removeprefix(".text."), np.frombuffer(cubin, np.uint64, size // 8, offset).reshape(-1, 2)


def operations(code: np.ndarray) -> list[np.ndarray]:
    """`code` without guards, registers and times of issue."""
    words = [code[:, 0] & ~np.uint64(GUARD), code[:, 1] & np.uint64(OPERATION)]
    for word, bit in REGISTERS:
        field = np.uint64(0xFF << bit)
        zero = (words[word] & field) == field
        words[word] = np.where(zero, words[word], words[word] & ~field)
    return words


def disassemble(nvdisasm: str, arch: str, code: np.ndarray) -> list[str]:
    """The name and modifiers of each instruction."""
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(code.tobytes())
        file.flush()
        command = [nvdisasm, "--no-dataflow", "--binary", f"SM{arch.rstrip('af')}", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = OPCODE.findall(text)
    assert len(found) == len(code), f"{nvdisasm} gave {len(found)} instructions for {len(code)}"
    return found


def opcodes(nvdisasm: str, arch: str, cubins: list[Path]) -> dict[str, Counter[str]]:
    """Of every kernel, by mangled name."""
    kernels = [kernel for path in cubins for kernel in sections(path.read_bytes())]
    code = np.concatenate([code for _, code in kernels])
    # sorting pairs is slow: pairs of ranks are one word
    low, high = (np.unique(words, return_inverse=True)[1] for words in operations(code))
    _, first, which = np.unique(low << 32 | high, return_index=True, return_inverse=True)
    names, name_of = np.unique(disassemble(nvdisasm, arch, code[first]), return_inverse=True)
    found, begin = {}, 0
    for kernel, own in kernels:
        counts = np.bincount(name_of[which[begin : begin + len(own)]])
        found[kernel] = Counter({str(names[i]): int(counts[i]) for i in np.flatnonzero(counts)})
        begin += len(own)
    return found
