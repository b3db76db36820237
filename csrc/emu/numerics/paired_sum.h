// The hardware-like model where nothing but floats is needed: two rows at once, sixteen lanes wide.
#pragma once

#include <cstdint>

#include "emu/numerics/product_sum.h"

namespace emu {

inline constexpr int kZeroExponent = -600;  // taken as exponent of a zero, below that of every term

// Whether float holds every factor and product and the power of two that aligns them, and int32 the sums.
bool fits_pairs(const Product& p, int terms, int fraction);

// The result for f32 accumulators, by blocks of `terms` products. False: a sum left the range of int32 or of the finite
// floats on its way, and there is no result.
bool add_pairs(Product& p, const TensorCore& core, int terms);

}  // namespace emu
