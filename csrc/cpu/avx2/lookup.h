// The values of 32 codes: in registers for formats of up to 4 bits, else gathered. Static, as all of this folder's
// headers.
#pragma once

#include "cpu/simd/vector.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

// Up to 16 values.
struct FewValues {
  SixteenFloats values;

  explicit FewValues(const float* table) : values(table) {}
  LOWBIT_INLINE void operator()(Ints codes, Floats (&v)[4]) const {
    v[0] = values(widen_quarter<0>(codes));
    v[1] = values(widen_quarter<1>(codes));
    v[2] = values(widen_quarter<2>(codes));
    v[3] = values(widen_quarter<3>(codes));
  }
};

struct ManyValues {
  const float* table;

  LOWBIT_INLINE void operator()(Ints codes, Floats (&v)[4]) const {
    v[0] = gather(table, widen_quarter<0>(codes));
    v[1] = gather(table, widen_quarter<1>(codes));
    v[2] = gather(table, widen_quarter<2>(codes));
    v[3] = gather(table, widen_quarter<3>(codes));
  }
};

template <class F>
void with_lookup(const float (&values)[256], int bits, F f) {
  bits <= 4 ? f(FewValues(values)) : f(ManyValues{values});
}

}  // namespace
}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
