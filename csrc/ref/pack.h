// Layout changes: plain codes [rows, cols] <-> canonical, nibble orders of other libraries, tile16; truncation to the
// first planes. A matrix of `batch` leading dimensions is `batch` matrices one after another (steps in bytes).
#pragma once

#include "common/parallel.h"
#include "common/qmatrix.h"
#include "common/status.h"

namespace lowbit::ref {

// codes (uint8, row_stride in bytes) -> canonical, contiguous. Fails when a code is no value of the format, before
// anything is written; the sentence names the first one.
Status pack(const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows, int64_t cols, void* out,
            const Parallel& parallel);
Status unpack(const Codes& packed, uint8_t* out, const Parallel& parallel);

// Canonical or plain codes -> tile16 (tile16_bytes() bytes), and back to canonical.
Status prepack(const Codes& codes, uint8_t* out, const Parallel& parallel);
Status unprepack(const Codes& tiles, void* out, const Parallel& parallel);

}  // namespace lowbit::ref
