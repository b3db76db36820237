"""The layouts of codes in NumPy, by definition: matrices of uint8 codes [rows, K] to packed arrays. The inverse of each
is tested by packing what came back."""

import numpy as np


def planes(codes: np.ndarray, bits: int) -> np.ndarray:
    """[bits, rows, ceil(K / 32)] int32, most significant plane first, bit j of word w is element 32 w + j."""
    rows, k = codes.shape
    words = -(-k // 32)
    padded = np.zeros((rows, words * 32), np.uint64)
    padded[:, :k] = codes
    weights = np.uint64(1) << np.arange(32, dtype=np.uint64)
    out = np.zeros((bits, rows, words), np.uint32)
    for plane in range(bits):
        bit = (padded >> np.uint64(bits - 1 - plane)) & np.uint64(1)
        out[plane] = (bit.reshape(rows, words, 32) * weights).sum(-1).astype(np.uint32)
    return out.view(np.int32)


def packed6(codes: np.ndarray) -> np.ndarray:
    """[rows, 3 ceil(K / 4)] uint8: four codes in a 24-bit little-endian word, the first at the low end."""
    rows, k = codes.shape
    quads = -(-k // 4)
    padded = np.zeros((rows, quads * 4), np.uint32)
    padded[:, :k] = codes
    word = (padded.reshape(rows, quads, 4) << np.array([0, 6, 12, 18], np.uint32)).sum(-1)
    return np.stack([word & 255, word >> 8 & 255, word >> 16], -1).astype(np.uint8).reshape(rows, quads * 3)


def nibbles(codes: np.ndarray, high_first: bool = False) -> np.ndarray:
    """[rows, ceil(K / 2)] uint8, two codes in a byte."""
    rows, k = codes.shape
    padded = np.zeros((rows, k + k % 2), np.uint8)
    padded[:, :k] = codes
    first, second = padded[:, 0::2], padded[:, 1::2]
    return (first << 4 | second) if high_first else (first | second << 4)


def gptq(codes: np.ndarray, bits: int) -> np.ndarray:
    """[ceil(K / s), rows] int32 of s = 32 / bits codes, as GPTQ packs the transposed weight row after row."""
    rows, k = codes.shape
    per = 32 // bits
    weight = np.zeros((-(-k // per) * per, rows), np.uint32)
    weight[:k] = codes.T
    out = np.zeros((weight.shape[0] // per, rows), np.uint32)
    for i in range(weight.shape[0]):
        out[i // per] |= weight[i] << np.uint32(bits * (i % per))
    return out.view(np.int32)


def awq(codes: np.ndarray) -> np.ndarray:
    """[K, rows / 8] int32 of 8 codes, as AWQ packs the transposed weight column after column."""
    weight = codes.T.astype(np.uint32)
    out = np.zeros((weight.shape[0], weight.shape[1] // 8), np.uint32)
    for column in range(out.shape[1]):
        for i, source in enumerate([0, 2, 4, 6, 1, 3, 5, 7]):
            out[:, column] |= weight[:, column * 8 + source] << np.uint32(4 * i)
    return out.view(np.int32)


def tile16(codes: np.ndarray, bits: int) -> np.ndarray:
    """[ceil(rows / 16), ceil(K / 4), 8 bits] uint8: tiles of 16 rows x 4 columns, element 4 row + column."""
    rows, k = codes.shape
    tiles, quads = -(-rows // 16), -(-k // 4)
    padded = np.zeros((tiles * 16, quads * 4), np.uint8)
    padded[:rows, :k] = codes
    elements = padded.reshape(tiles, 16, quads, 4).transpose(0, 2, 1, 3).reshape(tiles, quads, 64)
    if bits == 8:
        return elements.copy()
    eights = elements.reshape(tiles, quads, 8, 1, 8)
    bit = eights >> np.arange(bits, dtype=np.uint8).reshape(bits, 1) & 1
    return np.packbits(bit, axis=-1, bitorder="little").reshape(tiles, quads, 8 * bits)


def mma64(codes: np.ndarray, bits: int) -> np.ndarray:
    """[ceil(rows / 16), ceil(K / 64), 128 bits] uint8: tiles of 16 rows x 64 columns, a lane's codes after another's.

    Code 4 i + j of lane l is row l / 4 + 8 (i % 2), column 16 (i / 2) + 4 (l % 4) + j; the bits of a code are fields of
    4, 2 and 1 bits from the low end up, a field [32 lanes][f words]."""
    rows, k = codes.shape
    down, across = -(-rows // 16), -(-k // 64)
    padded = np.zeros((down * 16, across * 64), np.uint8)
    padded[:rows, :k] = codes
    # (row half, row, chunk of 16 columns, t, j) to lane (row, t), i (chunk, row half), j
    tiles = padded.reshape(down, 2, 8, across, 4, 4, 4).transpose(0, 3, 2, 5, 4, 1, 6).reshape(down, across, 32, 8, 4)
    if bits == 8:
        return tiles.reshape(down, across, 32, 2, 16).transpose(0, 1, 3, 2, 4).reshape(down, across, 1024)
    fields, low = [], 0
    for f in (4, 2, 1):
        if bits & f:
            part = (tiles >> low & ((1 << f) - 1)).reshape(down, across, 32, f, 8 // f, 4)
            shifts = np.arange(0, 8, f, dtype=np.uint8).reshape(8 // f, 1)
            fields.append((part << shifts).sum(-2, dtype=np.uint8).reshape(down, across, 128 * f))
            low += f
    return np.concatenate(fields, -1)
