#include "ref/quantize.h"

namespace lowbit::ref {

Status quantize(const QuantizeArgs&, const Parallel&) { return unsupported("quantize: not built"); }
Status dequantize(const DequantizeArgs&, const Parallel&) { return unsupported("dequantize: not built"); }

}  // namespace lowbit::ref
