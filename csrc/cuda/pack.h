// pack, unpack and truncate on CUDA (ref/pack.h): plain codes to and from the canonical layouts and the orders of other
// libraries. Every byte is read and written once: a thread moves 32 codes of a row, 16 bytes at a time where rows are
// aligned to 16; what is transposed goes through shared memory.
//
// Findings: kBadCode where a code is no value of its format; its upper bits are then cut off.
#pragma once

#include "cuda/launch.h"
#include "ref/pack.h"

namespace lowbit::cuda {

Status pack(const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows, int64_t cols, void* out,
            const Call& call);
Status unpack(const Codes& packed, uint8_t* out, const Call& call);

// kGptq and kAwq: `packed` is aligned to 4 bytes.
Status pack_order(Order order, const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows,
                  int64_t cols, void* out, const Call& call);
Status unpack_order(Order order, const ElementFormat& f, const void* packed, int64_t rows, int64_t cols, uint8_t* out,
                    const Call& call);

// The first `bits` planes are copied as they lie; plain codes are shifted. Contiguous `out`.
Status truncate(const Codes& codes, int bits, void* out, const Call& call);
// Findings: kScaleOverflow where a scale times 2^drop is not finite in its dtype.
Status truncate_scales(const void* scale, DType dtype, int64_t count, int drop, void* out, const Call& call);
Status truncate_zeros(const ElementFormat& f, const void* zero, DType dtype, int64_t count, int drop, float* out,
                      const Call& call);

}  // namespace lowbit::cuda
