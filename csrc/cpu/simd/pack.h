// Layout changes in vectors: the contracts of ref/pack.h.
#pragma once

#include "ref/pack.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {

Status pack(const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows, int64_t cols, void* out,
            const Parallel& parallel);
Status unpack(const Codes& packed, uint8_t* out, const Parallel& parallel);
Status pack_order(Order order, const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows,
                  int64_t cols, void* out, const Parallel& parallel);
Status unpack_order(Order order, const ElementFormat& f, const void* packed, int64_t rows, int64_t cols, uint8_t* out,
                    const Parallel& parallel);
Status prepack(const Codes& codes, Layout layout, uint8_t* out, const Parallel& parallel);
Status unprepack(const Codes& tiles, void* out, const Parallel& parallel);

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
