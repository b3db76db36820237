"""pack, unpack, prepack, unprepack and truncate through the ops: every format, odd and empty shapes, views, errors."""

import lowbit  # noqa: F401
import lowbit._C as _C
import numpy as np
import pytest
import torch
from oracle import layouts

OPS = torch.ops.lowbit
FORMATS = {f["name"]: f for f in _C.element_formats()}
SHAPES = [(1, 1), (3, 5), (16, 4), (17, 33), (5, 64), (33, 131), (2, 517), (0, 7), (7, 0), (0, 0)]


def valid_codes(name: str, *shape: int, seed: int = 0) -> torch.Tensor:
    """Random codes of every value of the format."""
    codes = np.random.default_rng(seed).integers(0, 1 << FORMATS[name]["bits"], shape, np.uint8)
    if FORMATS[name]["kind"] == "ternary":
        codes[codes == 2] = 0
    return torch.from_numpy(codes)


def canonical(name: str, codes: np.ndarray) -> np.ndarray:
    layout = FORMATS[name]["layout"]
    if layout == "planes":
        return layouts.planes(codes, FORMATS[name]["bits"])
    return {"bytes": lambda c: c, "packed6": layouts.packed6, "packed4": layouts.nibbles}[layout](codes)


@pytest.mark.parametrize("name", FORMATS)
def test_canonical_and_tile16_of_every_format(isa, name):
    bits = FORMATS[name]["bits"]
    for seed, (rows, k) in enumerate(SHAPES):
        codes = valid_codes(name, rows, k, seed=seed)
        packed = OPS.pack(codes, name)
        np.testing.assert_array_equal(packed.numpy(), canonical(name, codes.numpy()))
        assert torch.equal(OPS.unpack(packed, name, k), codes)
        tiles = OPS.prepack(packed, name, k)
        np.testing.assert_array_equal(tiles.numpy(), layouts.tile16(codes.numpy(), bits))
        assert torch.equal(OPS.prepack(codes, name + "@plain", k), tiles)
        assert torch.equal(OPS.unprepack(tiles, name, rows, k), packed)


def test_pack_refuses_codes_out_of_range(isa):
    with pytest.raises(ValueError, match=r"pack: codes must be codes of int3, got 9 at row 1, column 2"):
        OPS.pack(torch.tensor([[1, 2, 3], [1, 2, 9]], dtype=torch.uint8), "int3")
