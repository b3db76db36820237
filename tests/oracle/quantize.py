"""quantize and dequantize in NumPy, from the published rules: OCP MX v1.0 section 6.3 for power-of-two scales, NVIDIA's
two-level recipe for NVFP4, iFairy (Wang et al. 2025) for {+-1, +-i}. float32 operations one by one, element formats
from oracle.formats. A spec is written here as its own small record; nothing is read from the library."""

import re
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from oracle import formats

F32 = np.float32
DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


@dataclass(frozen=True)
class Spec:
    element: str
    block: tuple[int, int] = (1, 0)  # 0: all rows, columns
    scale: str | None = None
    scale_block: tuple[int, int] | None = None
    unit: float = 1.0


NAMED = {
    "mxfp8_e4m3": Spec("float8_e4m3fn", (1, 32), "float8_e8m0fnu"),
    "mxfp8_e5m2": Spec("float8_e5m2", (1, 32), "float8_e8m0fnu"),
    "mxfp6_e2m3": Spec("float6_e2m3fn", (1, 32), "float8_e8m0fnu"),
    "mxfp6_e3m2": Spec("float6_e3m2fn", (1, 32), "float8_e8m0fnu"),
    "mxfp4": Spec("float4_e2m1fn", (1, 32), "float8_e8m0fnu"),
    "mxint8": Spec("int8", (1, 32), "float8_e8m0fnu", None, 1 / 64),
    "nvfp4": Spec("float4_e2m1fn", (1, 16), "float8_e4m3fn", (0, 0)),
    "nvint4": Spec("int4", (1, 16), "float8_e4m3fn", (0, 0)),
}


def spec(text: str) -> Spec:
    def block(rule: str | None) -> tuple[int, int] | None:
        if rule is None:
            return None
        if rule in ("tensor", "row"):
            return (0 if rule == "tensor" else 1, 0)
        rows, cols = re.fullmatch(r"(?:b(\d+)x|g)(\d+)", rule).groups()
        return int(rows or 1), int(cols)

    if text in NAMED:
        return NAMED[text]
    element, rule, scale, scale_rule = re.fullmatch(r"(\w+)(?::(\w+))?(?:/(\w+)(?::(\w+))?)?", text).groups()
    return Spec(element, block(rule) or (1, 0), scale, block(scale_rule))


def largest(element: str, table: np.ndarray | None = None) -> np.float32:
    """What a block's largest magnitude is mapped to: the positive end, or of a table the longer one."""
    if element == "int1":
        return F32(1)
    v = np.asarray(table, np.float64) if table is not None else formats.values(element)
    v = v[[formats.is_code(element, c) for c in range(len(v))]]
    v = v[np.isfinite(v)]
    return F32(max(v.max(), -v.min()) if element == "nf4" or table is not None else v.max())


def expand(values: np.ndarray, block: tuple[int, int], rows: int, cols: int) -> np.ndarray:
    """One value per block to one per element."""
    r, c = np.arange(rows) // (block[0] or rows), np.arange(cols) // (block[1] or cols)
    return values[r[:, None], c]


def reduce(x: np.ndarray, block: tuple[int, int], f) -> np.ndarray:
    """f of every block."""
    high, wide = block[0] or x.shape[0], block[1] or x.shape[1]
    return np.array(
        [[f(x[r : r + high, c : c + wide]) for c in range(0, x.shape[1], wide)] for r in range(0, x.shape[0], high)]
    )


def stored(scale: np.ndarray, dtype: str) -> np.ndarray:
    scale = scale.astype(DTYPES[dtype]).astype(F32)
    return np.where(scale == 0, F32(1), scale)


def least_positive(element: str) -> int:
    v = formats.values(element)
    return int(np.flatnonzero(v == v[v > 0].min())[0])


@dataclass
class Quantized:
    codes: np.ndarray  # uint8 [rows, cols]
    scale: np.ndarray  # float32 values, or codes, one per block
    scale2: np.ndarray | None
    zero: np.ndarray | None
    divisor: np.ndarray  # what each element was divided by


def scales(x, s: Spec, dtype="float32", asymmetric=False, table=None):
    """scale, scale2, zero, and the scale of each block as kernels read it, without unit."""
    bits = formats.bits_of(s.element)
    if asymmetric:
        low = reduce(x, s.block, lambda b: min(b.min(), F32(0)))
        extent = (reduce(x, s.block, lambda b: max(b.max(), F32(0))) - low).astype(F32)
        top = F32(2**bits - 1)
    else:
        extent = reduce(x, s.block, lambda b: np.abs(b).max())
        top = largest(s.element, table)
    two = None
    if s.scale is None:
        values = scale = stored(extent / top, dtype)
    elif s.scale == "float8_e8m0fnu":
        e = np.floor(np.log2(np.where(extent > 0, extent, 1).astype(np.float64))) - np.floor(np.log2(top * s.unit))
        scale = np.where(extent > 0, np.clip(e + 127, 0, 254), 127).astype(np.uint8)
        values = (2.0 ** (scale.astype(float) - 127)).astype(F32)
    else:
        per = top
        if s.scale_block is not None:
            two = stored(reduce(extent, s.scale_block, np.max) / (top * largest(s.scale)), dtype)
            per = top * expand(two, s.scale_block, *extent.shape)
        ratio = np.minimum(np.where(extent > 0, extent / per, 0).astype(F32), largest(s.scale))
        scale = formats.encode(s.scale, ratio)
        values = formats.values(s.scale)[scale]
        scale = np.where((extent > 0) & ~(values > 0), least_positive(s.scale), scale).astype(np.uint8)
        values = formats.values(s.scale)[scale].astype(F32)
        if two is not None:
            values = values * expand(two, s.scale_block, *extent.shape)
    values = values * F32(s.unit)
    zero = None
    if asymmetric:
        with np.errstate(divide="ignore", invalid="ignore"):
            zero = formats.encode(s.element, np.where(values == 0, 0, -low / values))
    return scale, two, zero, values


def quotient(x, values, zero, s: Spec) -> np.ndarray:
    divisor = expand(values, s.block, *x.shape)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        y = np.where(divisor == 0, F32(0), x / divisor)
    return y if zero is None else y + expand(zero, s.block, *x.shape).astype(F32)


def quantize(x: np.ndarray, text: str, dtype="float32", asymmetric=False, table=None, encode=None) -> Quantized:
    """`encode`: y to codes, where it is not to the nearest."""
    s = spec(text)
    x = np.asarray(x, F32)
    scale, two, zero, values = scales(x, s, dtype, asymmetric, table)
    y = quotient(x, values, zero, s)
    codes = encode(y) if encode else formats.encode(s.element, y, table)
    return Quantized(codes.astype(np.uint8), scale, two, zero, values)


def mean_in_order(block: np.ndarray) -> float:
    """The mean of what is not NaN, summed from the first to the last; 1 of nothing."""
    there = block[~np.isnan(block)]
    return np.cumsum(there)[-1] / len(there) if len(there) else 1.0


def quantize_complex(x: np.ndarray, text: str, dtype="float32") -> Quantized:
    """x complex64. Two scales a block: means of the dominant part over the real and the imaginary classes."""
    s = spec(text)
    codes = np.vectorize(formats.phase_class, otypes=[np.uint8])(x)
    out = []
    for imaginary in (0, 1):
        part = np.abs(x.imag if imaginary else x.real).astype(np.float64)
        part = np.where(codes % 2 == imaginary, part, np.nan)
        mean = reduce(part, s.block, mean_in_order)
        out.append(stored(mean.astype(F32), dtype))
    return Quantized(codes, np.stack(out), None, None, np.stack(out))


def dequantize(codes, values, zero, s: Spec, table=None) -> np.ndarray:
    """(value - zero) * scale, each operation in float32."""
    v = (np.asarray(table) if table is not None else formats.values(s.element))[codes].astype(F32)
    if zero is not None:
        v = v - expand(zero, s.block, *codes.shape).astype(F32)
    return v * expand(values, s.block, *codes.shape)


def hadamard(x: np.ndarray, size: int) -> np.ndarray:
    """Block transform by float32 butterflies of distance 1, 2, 4, ..., then one product."""
    t = x.astype(F32).reshape(x.shape[0], -1, size).copy()
    h = 1
    while h < size:
        pairs = t.reshape(*t.shape[:2], size // (2 * h), 2, h)
        a, b = pairs[..., 0, :].copy(), pairs[..., 1, :].copy()
        pairs[..., 0, :], pairs[..., 1, :] = a + b, a - b
        h *= 2
    return (t * F32(1 / np.sqrt(size))).reshape(x.shape)
