// Runs of 24 or 32 bytes a lane, moved by neighbouring lanes together so that every access covers whole sectors of 32
// bytes. All 32 lanes call these. `whole`, the same for the lanes of a group: their bytes are there and aligned to 16
// (24 bytes: 8); where it is not, nothing is moved and loads give zeros.
#pragma once

#include <cstdint>

namespace lowbit::cuda {

// Two lanes have 32 bytes at p each, kApart bytes from one to the other: in each of two accesses they move those of one
// of them, and swap halves.
template <int kApart = 32>
__device__ __forceinline__ void load_pair(const uint8_t* p, bool whole, uint32_t (&v)[8]) {
  const bool odd = threadIdx.x & 1;
  const auto* from = reinterpret_cast<const uint4*>(odd ? p - kApart : p) + odd;
  uint4 first = make_uint4(0, 0, 0, 0), second = first;
  if (whole) first = from[0], second = from[kApart / 16];
  // even: its own low half and the other's, odd: the other's high half and its own
  uint32_t mine[4] = {odd ? second.x : first.x, odd ? second.y : first.y, odd ? second.z : first.z,
                      odd ? second.w : first.w};
  uint32_t other[4] = {odd ? first.x : second.x, odd ? first.y : second.y, odd ? first.z : second.z,
                       odd ? first.w : second.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    other[i] = __shfl_xor_sync(0xffffffffu, other[i], 1);
    v[i] = odd ? other[i] : mine[i];
    v[4 + i] = odd ? mine[i] : other[i];
  }
}
template <int kApart = 32>
__device__ __forceinline__ void store_pair(uint8_t* p, bool whole, const uint32_t (&v)[8]) {
  const bool odd = threadIdx.x & 1;
  uint32_t first[4], second[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t other = __shfl_xor_sync(0xffffffffu, odd ? v[i] : v[4 + i], 1);
    first[i] = odd ? other : v[i];
    second[i] = odd ? v[4 + i] : other;
  }
  if (!whole) return;
  auto* to = reinterpret_cast<uint4*>(odd ? p - kApart : p) + odd;
  to[0] = make_uint4(first[0], first[1], first[2], first[3]);
  to[kApart / 16] = make_uint4(second[0], second[1], second[2], second[3]);
}
// Four lanes have 96 bytes, 24 at p each, twelve units of 8: in access j they move units 4 j .. 4 j + 3, a sector. Unit
// 3 q + i is the i-th of lane q of the four, and lane s = (3 q + i) mod 4 moves it, so q = 3 (s - i) mod 4.
__device__ __forceinline__ void load_four(const uint8_t* p, bool whole, uint32_t (&v)[6]) {
  const int lane = static_cast<int>(threadIdx.x % 32), q = lane % 4;
  const auto* from = reinterpret_cast<const uint2*>(p - 24 * q) + q;
  uint2 unit[3];
#pragma unroll
  for (int j = 0; j < 3; ++j) unit[j] = whole ? from[4 * j] : make_uint2(0, 0);
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    const int j = (3 * ((3 * (q - i)) & 3) + i) / 4;  // what the lane gives
    const uint2 given = j == 0 ? unit[0] : j == 1 ? unit[1] : unit[2];
    const int source = lane - q + ((3 * q + i) & 3);
    v[2 * i] = __shfl_sync(0xffffffffu, given.x, source);
    v[2 * i + 1] = __shfl_sync(0xffffffffu, given.y, source);
  }
}
__device__ __forceinline__ void store_four(uint8_t* p, bool whole, const uint32_t (&v)[6]) {
  const int lane = static_cast<int>(threadIdx.x % 32), q = lane % 4;
  uint2 unit[3];
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    const int owner = (3 * (q - i)) & 3, j = (3 * owner + i) / 4;
    const uint2 taken = make_uint2(__shfl_sync(0xffffffffu, v[2 * i], lane - q + owner),
                                   __shfl_sync(0xffffffffu, v[2 * i + 1], lane - q + owner));
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      if (k == j) unit[k] = taken;
    }
  }
  if (!whole) return;
  auto* to = reinterpret_cast<uint2*>(p - 24 * q) + q;
#pragma unroll
  for (int j = 0; j < 3; ++j) to[4 * j] = unit[j];
}

}  // namespace lowbit::cuda
