// Layout changes of one matrix: plain codes [rows, cols] <-> canonical, tile16, mma64 and the orders of other
// libraries (formats/layout.h states each); truncation to the first planes. Outputs are contiguous and may be
// uninitialized.
#pragma once

#include "common/parallel.h"
#include "common/qmatrix.h"
#include "common/status.h"

namespace lowbit::ref {

// codes (uint8, row_stride in bytes) -> canonical. Fails when a code is no value of the format; the sentence names the
// first one, and `out`, which is new memory, holds nothing of use then.
Status pack(const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows, int64_t cols, void* out,
            const Parallel& parallel);
Status unpack(const Codes& packed, uint8_t* out, const Parallel& parallel);

// The same for another library's order; `packed` is contiguous.
Status pack_order(Order order, const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows,
                  int64_t cols, void* out, const Parallel& parallel);
Status unpack_order(Order order, const ElementFormat& f, const void* packed, int64_t rows, int64_t cols, uint8_t* out,
                    const Parallel& parallel);

// Codes of any layout -> `layout`, kTile16 or kMma64 (tiled_bytes() bytes), and from either back to canonical.
Status prepack(const Codes& codes, Layout layout, uint8_t* out, const Parallel& parallel);
Status unprepack(const Codes& tiles, void* out, const Parallel& parallel);

// The format of `bits` bits that the first planes of `f` are codes of, or nullptr: signed, unsigned and bipolar
// integers have one.
const ElementFormat* truncated(const ElementFormat& f, int bits);

// floor(code / 2^(f.bits - bits)) of canonical or plain codes, in the layout they came in.
Status truncate(const Codes& codes, int bits, void* out, const Parallel& parallel);

// The scale and the zero point of truncated codes, one and `count` of them. A code c of `drop` more bits is 2^drop t +
// r with r in 0 .. 2^drop - 1, and t alone stands for the middle of these, so that
//   s (c - z)  ~  (2^drop s) (t - z'),   z' = (z + 1/2) / 2^drop - 1/2.
// A bipolar code stands for the middle already: z' = z / 2^drop.
constexpr float truncated_scale(float scale, int drop) { return scale * static_cast<float>(1 << drop); }
constexpr float truncated_zero(const ElementFormat& f, float zero, int drop) {
  const float step = static_cast<float>(1 << drop);
  return f.rule == kBipolar ? zero / step : (zero + 0.5f) / step - 0.5f;
}
// Scales in their own dtype; fails where one is not finite there.
Status truncate_scales(const void* scale, DType dtype, int64_t count, int drop, void* out, const Parallel& parallel);
// Zero points of any dtype, to float32.
Status truncate_zeros(const ElementFormat& f, const void* zero, DType dtype, int64_t count, int drop, float* out,
                      const Parallel& parallel);

}  // namespace lowbit::ref
