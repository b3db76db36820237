// Shared-memory tiles of rows of 16-byte chunks without bank conflicts, for cp.async (a warp writes whole rows) and
// ldmatrix (eight lanes read one chunk column of eight consecutive rows).
//
// Bank group of a chunk = its index mod 8 (8 x 16 bytes = 32 banks). For rows of `kChunks` chunks (a power of two),
// chunk c of row r lies at c ^ (r / (8 / kChunks) mod kChunks) for kChunks < 8, else c ^ (r mod 8): eight consecutive
// rows meet eight different groups.
#pragma once

namespace lowbit::cuda {

template <int kChunks>
constexpr __host__ __device__ int swizzle(int row, int chunk) {
  static_assert(kChunks >= 1 && (kChunks & (kChunks - 1)) == 0, "a power of two");
  // rows are not negative: unsigned, the divisions are shifts
  const auto r = static_cast<unsigned>(row);
  if (kChunks >= 8) return row * kChunks + (chunk ^ static_cast<int>(r % 8));
  return row * kChunks + (chunk ^ static_cast<int>(r / (8 / (kChunks < 8 ? kChunks : 8)) % kChunks));
}

}  // namespace lowbit::cuda
