#include "ref/gemm_args.h"

namespace lowbit {
namespace {

bool integers(const ElementFormat& f) { return f.is_complex() || int8_shift(f) >= 0; }

bool is_integer(DType t) { return t == DType::kI32 || t == DType::kI8 || t == DType::kU8; }

}  // namespace

bool is_integer_path(const GemmArgs& args) {
  if (args.xq == nullptr || args.xq->high != nullptr || !integers(*args.xq->codes.format)) return false;
  if (args.xq->zero && !is_integer(args.xq->zero.dtype)) return false;
  return integers(*args.w.codes.format) && (args.w.high == nullptr || integers(*args.w.high->format));
}

}  // namespace lowbit
