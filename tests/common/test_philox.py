"""Philox4x32-10 against the known-answer vectors of Random123 (kat_vectors of its distribution), and the map from an
element to its 16 bits."""

import lowbit._C as _C
import numpy as np
import pytest

KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(counter, key, words):
    assert tuple(_C.philox4x32_10(counter, key)) == words


def test_seed_is_the_key_and_offset_the_low_counter_words():
    seed, offset = 0x0123456789ABCDEF, 0xFFFFFFFFFFFFFFFE  # the counter wraps at 64 bits
    words = _C.philox(seed, offset, 4)
    for i in range(4):
        c = (offset + i) % 2**64
        counter = (c & 0xFFFFFFFF, c >> 32, 0, 0)
        assert tuple(words[i]) == tuple(_C.philox4x32_10(counter, (seed & 0xFFFFFFFF, seed >> 32)))


def test_an_element_takes_half_word_index_mod_8_of_block_index_div_8():
    words = _C.philox(7, 5, 5)
    halves = np.stack([words & 0xFFFF, words >> 16], -1).reshape(-1)
    np.testing.assert_array_equal(_C.philox_bits(7, 5, 37), halves[:37])


def test_bits_look_uniform():
    bits = _C.philox_bits(1, 0, 1 << 16).astype(np.float64)
    assert abs(bits.mean() - 32767.5) < 5 * 65536 / 12**0.5 / 256  # five standard errors
    assert len(np.unique(bits)) > 0.6 * 65536  # 1 - 1/e expected
