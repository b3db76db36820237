// Runs of 512 codes of a matrix in any layout, chosen at run time: code_rows.h with the layout looked up per run.
// Static, as all of this folder's headers.
#pragma once

#include <algorithm>

#include "common/qmatrix.h"
#include "cpu/simd/code_rows.h"
#include "cpu/simd/tiled_quads.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

template <int kBits, class F>
void with_layout(const Codes& codes, Canonical kind, F f) {
  auto* bytes = static_cast<uint8_t*>(const_cast<void*>(codes.data));
  if (kind == Canonical::kBytes) return f(ByteRows<kBits>{bytes, codes.row_stride, codes.cols});
  f(PlaneRows<kBits>{static_cast<uint32_t*>(const_cast<void*>(codes.data)), codes.row_stride, codes.plane_stride,
                     codes.cols});
}

// canonical() of layout.h, or kBytes for plain codes. (An inline function that other folders may instantiate too is not
// called from this one: the linker keeps one copy for all.)
inline Canonical layout_kind(const ElementFormat& f, Layout layout) {
  if (layout == Layout::kPlain) return Canonical::kBytes;
  if (f.kind != Kind::kFloat) return Canonical::kPlanes;
  return f.bits == 8   ? Canonical::kBytes
         : f.bits == 6 ? Canonical::kPacked6
         : f.bits == 4 ? Canonical::kPacked4
                       : Canonical::kPlanes;
}

// Calls f(rows) with the reader and writer of `codes`, which must not be tiled. `kind`: layout_kind().
template <class F>
void with_rows(const Codes& codes, Canonical kind, F f) {
  auto* bytes = static_cast<uint8_t*>(const_cast<void*>(codes.data));
  if (kind == Canonical::kPacked4) return f(NibbleRows<false>{bytes, codes.row_stride, codes.cols});
  if (kind == Canonical::kPacked6) return f(Packed6Rows{bytes, codes.row_stride, codes.cols});
  switch (codes.format->bits) {
    case 1: return with_layout<1>(codes, kind, f);
    case 2: return with_layout<2>(codes, kind, f);
    case 3: return with_layout<3>(codes, kind, f);
    case 4: return with_layout<4>(codes, kind, f);
    case 5: return with_layout<5>(codes, kind, f);
    case 6: return with_layout<6>(codes, kind, f);
    case 7: return with_layout<7>(codes, kind, f);
    default: return with_layout<8>(codes, kind, f);
  }
}

// Codes c .. c + 511 of row r of tiles, c a multiple of 512.
template <class Quads>
void load_quads(const Codes& codes, int64_t r, int64_t c, Run& v) {
  alignas(64) uint32_t quads[kBlock / 4];
  const Quads from(codes);
  const int64_t n = std::min<int64_t>(kBlock / 4, (codes.cols - c + 3) / 4);
  for (int64_t q = 0; q < kBlock / 4; ++q) quads[q] = q < n ? from.get(r, c / 4 + q) : 0u;
  for (int i = 0; i < kChunks; ++i) v[i] = load_ints(quads + kLanes * i);
}

inline void load_run(const Codes& codes, Canonical kind, int64_t r, int64_t c, Run& v) {
  if (codes.layout == Layout::kTile16) return load_quads<TileQuads>(codes, r, c, v);
  if (codes.layout == Layout::kMma64) return load_quads<MmaQuads>(codes, r, c, v);
  with_rows(codes, kind, [&](const auto& rows) { rows.load(r, c, v); });
}
inline void store_run(const Codes& codes, Canonical kind, int64_t r, int64_t c, const Run& v) {
  with_rows(codes, kind, [&](const auto& rows) { rows.store(r, c, v); });
}

}  // namespace
}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
