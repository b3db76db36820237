#include <algorithm>
#include <string>

#include "common/parallel.h"
#include "cuda/gemm.h"
#include "cuda/tile/gemm_shape.h"

namespace lowbit::cuda {
namespace {

constexpr int32_t kLongestSegment = 131071;  // products of signed bytes that an int32 holds for certain
constexpr int32_t kWidestUnit = 512;
// FP8 sums in the tensor cores of sm_89 keep some 22 bits (SageAttention2, Zhang et al. 2024): they are joined in fp32
// so often, block-scaled ones too.
constexpr int32_t kFloat8Unit = 128;

bool has_int4_mma(int sm) { return sm >= 80 && sm < 90; }
bool has_block_scaled_mma(const Arch& code) { return code.suffix != 0 && code.sm >= 120 && code.sm < 130; }
bool has_float8_mma(int sm) { return sm == 89 || (sm >= 120 && sm < 130); }

uint32_t halves(uint32_t h) { return h | h << 16; }

uint32_t half_power(int e) { return halves(static_cast<uint32_t>(e + 15) << 10); }
uint32_t bfloat16_power(int e) { return halves(static_cast<uint32_t>(e + 127) << 7); }

bool is_byte(DType t) { return t == DType::kI8 || t == DType::kU8; }

// |value - zero| of an integer format under a zero point of 8 bits, at most.
int32_t widest_difference(const ElementFormat& f, const BlockValues& zero) {
  const int32_t low = decode_int(f, f.rule == kUnsigned || f.rule == kBipolar ? 0u : 1u << (f.bits - 1));
  const int32_t high = decode_int(f, max_code(f));
  if (!zero) return std::max(-low, high);
  const int32_t zero_low = zero.dtype == DType::kI8 ? -128 : 0, zero_high = zero.dtype == DType::kI8 ? 127 : 255;
  return std::max(high - zero_low, zero_high - low);
}

// How many 16-bit floats the values of an operand take: 1 where they are all exact, else as many as their bits ask for.
int terms_of_codes(const ElementFormat& f, const BlockValues& zero, GemmEngine engine) {
  const int32_t exact = engine == GemmEngine::kHalf ? 2048 : 256;
  if (f.is_complex()) return 1;
  if (f.is_int() && (!zero || (zero.codes.format == nullptr && is_byte(zero.dtype)))) {
    return widest_difference(f, zero) <= exact ? 1 : 2;
  }
  if (zero) return kMaxTerms;
  if (!f.is_float() || f.specials == kPower) return kMaxTerms;
  if (engine == GemmEngine::kBFloat16) return 1;
  // halves: 11 bits from 2^-24 to 65504
  const bool range = decode(f, max_code(f)) <= 65504.0f && f.bias + f.mantissa - 1 <= 24;
  return range ? 1 : kMaxTerms;
}

int terms_of_codes(const QMatrix& q, GemmEngine engine) {
  int terms = terms_of_codes(*q.codes.format, q.zero, engine);
  if (q.high != nullptr) terms = std::max(terms, terms_of_codes(*q.high->format, q.zero, engine));
  return terms;
}

bool is_float8(const Codes& c) {
  return c.format == find_format("float8_e4m3fn") || c.format == find_format("float8_e5m2");
}

// Blocks of whole steps, of a power of two of them: then all parts of K are even, whatever the unit.
bool is_even_block(const BlockValues& v, int64_t k) {
  const int64_t cols = v ? v.block.cols : 0;
  return cols == 0 || cols >= k || (cols % kStepSlots == 0 && (cols & (cols - 1)) == 0);
}

bool is_int4_pair(const GemmArgs& args) {
  const auto fits = [&](const QMatrix& q) {
    const ElementFormat& f = *q.codes.format;
    return f.bits == 4 && f.is_int() && (f.rule == kSigned || f.rule == kUnsigned) && !q.zero && q.high == nullptr &&
           is_even_block(q.scale, args.k);
  };
  return args.xq != nullptr && fits(args.w) && fits(*args.xq);
}

// The block-scaled multiply that the pair is made for: alike in both operands, rows by themselves, and beside the
// scales of blocks at most one of the tensor.
BlockScaled block_scaled_kind(const GemmArgs& args) {
  if (args.xq == nullptr) return BlockScaled::kNone;
  const auto blocks = [](const QMatrix& q, int64_t rows) -> int64_t {  // columns of a block, 0: does not fit
    const BlockValues& v = q.scale;
    if (!v || v.codes.format == nullptr || q.zero || q.high != nullptr) return 0;
    if (v.block.rows != 1 && rows > 1) return 0;
    if (v.second != nullptr && (v.second->block.cols != 0 || v.second->codes.format != nullptr ||
                                v.second->second != nullptr || v.second->dtype != DType::kF32)) {
      return 0;
    }
    if (v.codes.format == find_format("float8_e8m0fnu")) return v.block.cols == 32 ? 32 : 0;
    return v.codes.format == find_format("float8_e4m3fn") && v.block.cols == 16 ? 16 : 0;
  };
  const int64_t cols = blocks(args.w, args.n);
  if (cols == 0 || cols != blocks(*args.xq, args.m)) return BlockScaled::kNone;
  const ElementFormat* w = args.w.codes.format;
  const ElementFormat* x = args.xq->codes.format;
  if (w == x && w == find_format("float4_e2m1fn")) return cols == 16 ? BlockScaled::kNvFloat4 : BlockScaled::kMxFloat4;
  if (cols == 16) return BlockScaled::kNone;
  if (w == x && w == find_format("float6_e2m3fn")) return BlockScaled::kE2M3;
  if (w == x && w == find_format("float6_e3m2fn")) return BlockScaled::kE3M2;
  if (!is_float8(args.w.codes) || !is_float8(args.xq->codes)) return BlockScaled::kNone;
  if (w->mantissa == 2) return x->mantissa == 2 ? BlockScaled::kE5M2E5M2 : BlockScaled::kE5M2E4M3;
  return x->mantissa == 2 ? BlockScaled::kE4M3E5M2 : BlockScaled::kE4M3E4M3;
}

GemmEngine engine_of(const GemmArgs& args, const Arch& code, bool exact) {
  if (!exact && has_block_scaled_mma(code) && block_scaled_kind(args) != BlockScaled::kNone) {
    return GemmEngine::kBlockScaled;
  }
  if (is_integer_path(args)) {
    return has_int4_mma(code.sm) && is_int4_pair(args) ? GemmEngine::kInt4 : GemmEngine::kInt8;
  }
  if (args.xq != nullptr && is_float8(args.xq->codes) && is_float8(args.w.codes) && args.w.high == nullptr &&
      !args.w.zero && !args.xq->zero && has_float8_mma(code.sm)) {
    return GemmEngine::kFloat8;
  }
  if (args.xq == nullptr && args.x.dtype == DType::kF16 && terms_of_codes(args.w, GemmEngine::kHalf) == 1) {
    return GemmEngine::kHalf;
  }
  return GemmEngine::kBFloat16;
}
bool is_integer(GemmEngine e) { return e == GemmEngine::kInt8 || e == GemmEngine::kInt4; }
bool multiplies_codes(GemmEngine e) { return e == GemmEngine::kFloat8 || e == GemmEngine::kBlockScaled; }

void add_cut(int64_t columns, int64_t k, int32_t first, GemmParams* p) {
  if (columns <= 0 || columns >= k) return;
  for (int32_t i = first; i < kMaxCuts; ++i) {
    if (p->cuts[i] == columns) return;
    if (p->cuts[i] == 0) {
      p->cuts[i] = static_cast<int32_t>(columns);
      return;
    }
  }
}

int32_t most_parts(const GemmParams& p, int32_t unit) {
  int32_t parts = 1;
  for (const int32_t cut : p.cuts) {
    if (cut > 0) parts += unit % cut == 0 ? unit / cut - 1 : unit / cut + 1;
  }
  return parts + (p.w.is_complex ? 1 : 0);
}

// How K is walked: chunk, linear, unit.
void cut_k(GemmEngine engine, GemmParams* p) {
  int32_t least = p->k;
  bool by32 = true, by16 = true;
  for (const int32_t cut : p->cuts) {
    if (cut == 0) continue;
    least = std::min(least, cut);
    by32 = by32 && cut % 32 == 0;
    by16 = by16 && cut % 16 == 0;
  }
  if (p->w.is_complex) {
    by32 = by32 && p->k / 2 % 32 == 0;
    by16 = by16 && p->k / 2 % 16 == 0;
  }
  p->chunk = multiplies_codes(engine) || (is_integer(engine) && (by32 || (!by16 && least >= 32))) ? 32 : 16;
  p->linear = p->chunk == 32 ? by32 : by16;
  const int32_t narrowest = p->linear ? kStepSlots : 16;
  p->unit = multiplies_codes(engine) ? kFloat8Unit : kWidestUnit;
  while (p->unit > narrowest && most_parts(*p, p->unit) > 5) p->unit /= 2;
  p->unit_parts = most_parts(*p, p->unit);
  p->slots = 1;
  for (const int32_t cut : p->cuts) {
    if (cut > 0 && cut % kStepSlots != 0) p->slots = 4;
  }
  if (p->w.is_complex && p->k / 2 % kStepSlots != 0) p->slots = 4;
}

// Whether the parts are all alike, which the loops need no walk for: segments at multiples of 64 columns, those of all
// scales beginning where the least ones do. `cut_units`: parts end at units too.
void even_parts(GemmParams* p, bool cut_units) {
  int32_t least = 0;
  for (const int32_t cut : p->cuts) least = cut > 0 && (least == 0 || cut < least) ? cut : least;
  p->segment = least;
  p->part = least == 0 ? p->k : least;
  if (cut_units) p->part = std::min(p->part, p->unit);
  p->part = static_cast<int32_t>(round_up(p->part, kStepSlots));
  p->even = p->linear && !p->w.is_complex && p->w_terms == 1 && p->x_terms == 1 && p->unit % kStepSlots == 0;
  for (const int32_t cut : p->cuts) p->even = p->even && cut % kStepSlots == 0 && (cut == 0 || cut % least == 0);
  if (cut_units && least > 0) p->even = p->even && (p->unit % least == 0 || least % p->unit == 0);
}

// |byte| of an operand of the integer path (ByteMap), at most.
int64_t widest_byte(const Operand& o, const ElementFormat& f) {
  if (f.is_complex()) return 1;
  if (f.is_float()) return static_cast<int64_t>(decode(f, max_code(f)) * static_cast<float>(1 << o.bytes.shift));
  return f.bits == 8 ? 128 : widest_difference(f, BlockValues());
}

// |value - zero| in its unit, at most; a zero point counts as one of the range of the codes.
int64_t widest_value(const Operand& o, const ElementFormat& f, const BlockValues& zero) {
  if (f.is_complex()) return 1;
  if (f.is_float()) return widest_byte(o, f) * (o.has_zero ? 2 : 1);
  return o.has_zero && !o.zero_is_float ? widest_difference(f, is_byte(zero.dtype) ? zero : BlockValues()) * 2
                                        : widest_difference(f, BlockValues());
}

// Bytes of mma64 integers, whatever their width (integer_bytes of tile/weight_words.cuh): s = code as a signed number,
// of unsigned and bipolar formats code - 2^(bits - 1).
ByteMap word_map(const ElementFormat& f) {
  if (f.rule == kUnsigned) return {0, 1, -(1 << (f.bits - 1))};
  if (f.rule == kBipolar) return {0, 2, -1};
  return {};
}

// Decoding of mma64 weights in registers. False where they take the way through rows.
bool decode_in_registers(const GemmArgs& args, GemmEngine engine, GemmParams* p, bool* float_weights) {
  const ElementFormat& f = *args.w.codes.format;
  if (args.w.codes.layout != Layout::kMma64 || args.w.high != nullptr || f.is_complex() || !p->linear) return false;
  if (p->w_terms != 1) return false;
  if (multiplies_codes(engine) || engine == GemmEngine::kInt4) return true;  // codes as they are
  *float_weights = f.is_float();
  if (engine == GemmEngine::kInt8) {
    if (f.is_float()) return f.bits == 4 && f.exponent == 2 && f.mantissa == 1;
    p->w.bytes = word_map(f);
    p->flip = p->w.bytes.offset != 0 ? 0x80808080u : 0u;
    return true;
  }
  if (f.is_float()) {
    const bool small = (f.bits == 4 || f.bits == 6) && f.has_sign() && f.specials == kFinite;
    if (args.w.zero || !(small || is_float8(args.w.codes))) return false;
    const bool half = engine == GemmEngine::kHalf;
    p->float_shift = (half ? 10 : 7) - f.mantissa;
    p->float_scale = half ? half_power(15 - f.bias) : bfloat16_power(127 - f.bias);
    if (f.specials == kNanOnly) p->float_special = 0x00010001u;
    if (f.specials == kIeee && !half) p->float_special = 0x00040004u;  // halves have this format's exponent
    return p->float_shift >= 0 && p->float_shift + f.bits - 1 <= 15;
  }
  if (!f.is_int() || f.rule == kBipolar) return false;
  const bool is_signed = f.rule == kSigned || f.rule == kTernary;
  if (is_signed) p->flip = (1u << (f.bits - 1)) * 0x01010101u;
  return !args.w.zero || (args.w.zero.codes.format == nullptr && is_byte(args.w.zero.dtype));
}

// Whether a step takes its weights of one matrix, of mixed widths too, and those are of the same kind.
template <class IsKind>
bool steps_have(const GemmParams& p, const IsKind& is_kind) {
  if (p.w.is_complex || !is_kind(p.w.low)) return false;
  return p.w.high_groups == nullptr || (p.even && is_kind(p.w.high));
}

bool copied_rows(const GemmArgs& args, GemmEngine engine, const GemmParams& p) {
  if (!p.linear || p.x_terms != 1) return false;
  if (args.xq == nullptr) {
    const DType wanted = engine == GemmEngine::kHalf ? DType::kF16 : DType::kBF16;
    return args.x.dtype == wanted && p.x.dense_aligned;
  }
  const Codes& c = args.xq->codes;
  const bool bytes = multiplies_codes(engine)
                         ? c.layout == Layout::kPlain || c.layout == Layout::kCanonical
                         : engine == GemmEngine::kInt8 && c.layout == Layout::kPlain && c.format->is_int();
  return bytes && c.format->bits == 8 && reinterpret_cast<uintptr_t>(c.data) % 16 == 0 && c.row_stride % 16 == 0;
}

const GemmKernels* kernels_of(const GemmArgs& args, const GemmPlan& plan) {
  switch (plan.engine) {
    case GemmEngine::kInt8: return int8_gemm_kernels(plan.bits, plan.float_weights);
    case GemmEngine::kInt4:
      return int4_gemm_kernels(plan.bits, args.w.codes.format->rule == kSigned, args.xq->codes.format->rule == kSigned);
    case GemmEngine::kBlockScaled: return block_scaled_gemm_kernels(plan.bits, plan.blocks);
    case GemmEngine::kHalf: return half_gemm_kernels(plan.bits, plan.float_weights);
    case GemmEngine::kFloat8:
      return float8_gemm_kernels(plan.bits, args.w.codes.format->mantissa == 2, args.xq->codes.format->mantissa == 2);
    default: return bfloat16_gemm_kernels(plan.bits, plan.float_weights);
  }
}

}  // namespace

Status plan_gemm(const char* op, const GemmArgs& args, const GroupedRows* grouped, const Device& device, bool exact,
                 GemmPlan* plan) {
  const int64_t shared_per_block = device.shared_per_block;
  const int multiprocessors = device.multiprocessors;
  const int64_t width = args.w.codes.format->is_complex() ? 2 : 1;
  const int64_t m = args.m, n = args.n * width, k = args.k * width;
  for (const auto& [name, size] : {std::pair("M", m), std::pair("N", n), std::pair("K", k)}) {
    if (size >= int64_t{1} << 31) {
      return invalid(op, ": ", name, " must be below 2^31 on CUDA, got ", size, "; cut the product there");
    }
  }
  *plan = GemmPlan();
  GemmParams& p = plan->params;
  p.w = Operand(args.w, args.n);
  p.x = args.xq != nullptr ? Operand(*args.xq, m) : Operand(args.x);
  p.m = static_cast<int32_t>(m), p.n = static_cast<int32_t>(n), p.k = static_cast<int32_t>(k);
  plan->engine = engine_of(args, device.code, exact);
  const bool integer = is_integer(plan->engine), block_scaled = plan->engine == GemmEngine::kBlockScaled;
  if (block_scaled) plan->blocks = block_scaled_kind(args);
  if (!integer) p.w.bytes = p.x.bytes = ByteMap();

  // what is scaled within a multiply cuts nothing
  if (!block_scaled) add_cut(args.w.scale ? args.w.scale.block.cols : 0, args.k, 0, &p);
  add_cut(args.w.scale_imaginary ? args.w.scale_imaginary.block.cols : 0, args.k, 0, &p);
  add_cut(args.w.zero ? args.w.zero.block.cols : 0, args.k, 0, &p);
  add_cut(args.w.high != nullptr ? args.w.group : 0, args.k, 0, &p);
  while (p.w_cuts < kMaxCuts && p.cuts[p.w_cuts] > 0) ++p.w_cuts;
  if (args.xq != nullptr) {
    const int32_t first = width == 1 ? 0 : p.w_cuts;  // which of equal cuts are one
    if (!block_scaled) add_cut(args.xq->scale ? args.xq->scale.block.cols : 0, k, first, &p);
    add_cut(args.xq->zero ? args.xq->zero.block.cols : 0, k, first, &p);
    p.x_scaled = true;
    p.x_scale_joins = args.xq->scale && args.xq->scale.block.cols != 0;
  }
  cut_k(plan->engine, &p);
  p.raw = args.out.dtype == DType::kI32;
  const bool bytes = integer || multiplies_codes(plan->engine);
  p.w_terms = bytes ? 1 : terms_of_codes(args.w, plan->engine);
  p.x_terms = 1;
  if (!bytes && args.xq != nullptr) p.x_terms = terms_of_codes(*args.xq, plan->engine);
  if (!integer && args.xq == nullptr && plan->engine == GemmEngine::kBFloat16) {
    p.x_terms = args.x.dtype == DType::kBF16 ? 1 : args.x.dtype == DType::kF16 ? 2 : 3;
  }
  const bool in_registers = decode_in_registers(args, plan->engine, &p, &plan->float_weights);
  plan->bits = in_registers ? args.w.codes.format->bits : 0;
  plan->float_weights = plan->float_weights && in_registers;
  p.x_async = copied_rows(args, plan->engine, p);
  if (integer) {
    p.x_sums = p.w.has_zero || p.w.bytes.offset != 0;
    p.w_sums = p.x.has_zero || p.x.bytes.offset != 0;
  }
  p.bias = args.bias, p.bias_dtype = args.bias_dtype, p.bias_stride = args.bias_stride;
  p.outliers = args.w.outliers;
  p.out = args.out;

  const GemmKernels* kernels = kernels_of(args, *plan);
  int32_t longest = p.k;
  for (const int32_t cut : p.cuts) longest = cut > 0 ? std::min(longest, cut) : longest;
  int64_t longest_segment = kLongestSegment;
  if (integer) {
    const ElementFormat& wf = *args.w.codes.format;
    const ElementFormat& xf = *args.xq->codes.format;
    const bool lifted = plan->bits > 0 && !plan->float_weights && plan->engine == GemmEngine::kInt8;
    const int64_t w_byte = lifted ? 128 : widest_byte(p.w, wf);
    p.small_sums = args.w.high == nullptr && longest * w_byte * widest_byte(p.x, xf) < 1 << 22;
    const int64_t product = widest_value(p.w, wf, args.w.zero) * widest_value(p.x, xf, args.xq->zero);
    longest_segment = std::min<int64_t>(longest_segment, INT32_MAX / product);
  }
  plan->narrow = grouped == nullptr && (m <= kNarrowRows || (integer && longest > longest_segment));
  plan->splits = 1;
  if (grouped != nullptr) {
    p.offs = grouped->offs, p.experts = grouped->experts;
    p.w_step = grouped->w_step, p.w_scale_step = grouped->w_scale_step, p.w_second_step = grouped->w_second_step;
    p.w_zero_step = grouped->w_zero_step, p.bias_step = grouped->bias_step;
    if (p.w_scale_step % 4 != 0) p.w.scale_window = ValueWindow();
    if (p.w_zero_step % 4 != 0) p.w.zero_window = ValueWindow();
    if (integer && longest > longest_segment) {
      return unsupported(op, ": K under one scale must be at most ", longest_segment, ", got ", longest,
                         "; use scales of groups");
    }
  }
  // as many stages as there is room for; where the wide loop finds none, the narrow one does
  const auto fits = [&](bool narrow, int parts) {
    for (p.stages = plan->bits > 0 ? kMostStages : 2; p.stages >= 2; --p.stages) {
      plan->shared_bytes = narrow ? kernels->narrow_shared(p, p.stages, parts) : kernels->wide_shared(p, p.stages);
      if (plan->shared_bytes <= shared_per_block) return true;
    }
    p.stages = 2;
    return false;
  };
  bool room = true;
  if (!plan->narrow) {
    even_parts(&p, !integer);
    p.code_windows = plan->bits == 0 && steps_have(p, [](const CodeSource& s) { return s.has_planes(); });
    room = fits(false, 0);
    if (!room && p.code_windows) {
      p.code_windows = false;
      room = fits(false, 0);
    }
    if (!room) {  // without windows there may be
      p.w.scale_window = p.w.zero_window = p.x.scale_window = p.x.zero_window = ValueWindow();
      room = fits(false, 0);
    }
    plan->narrow = !room && grouped == nullptr;
  }
  even_parts(&p, !integer || plan->narrow);
  p.w_tiles = plan->bits == 0 && p.linear && steps_have(p, [](const CodeSource& s) { return s.mma64; });
  if (plan->engine == GemmEngine::kInt4 || plan->blocks >= BlockScaled::kMxFloat4) p.chunk = kStepSlots;
  if (plan->narrow) {
    const int64_t tiles = ceil_div(n, kNarrowTile) * ceil_div(m, kNarrowColumns);
    const int64_t units = ceil_div(k, p.unit);
    // no block with fewer units than warps
    plan->splits = static_cast<int32_t>(std::clamp<int64_t>(2 * multiprocessors / std::max<int64_t>(tiles, 1), 1,
                                                            std::max<int64_t>(units / kNarrowWarps, 1)));
    plan->splits = static_cast<int32_t>(ceil_div(units, ceil_div(units, plan->splits)));
    plan->grid = dim3(static_cast<unsigned>(ceil_div(n, kNarrowTile)), static_cast<unsigned>(plan->splits),
                      static_cast<unsigned>(ceil_div(m, kNarrowColumns)));
    plan->block = dim3(kNarrowWarps * 32);
    room = fits(true, plan->splits > 1 ? 0 : kNarrowWarps * p.unit_parts);
    if (plan->splits > 1) plan->workspace_bytes = round_up(4 * tiles, 256) + tiles * units * p.unit_parts * kPartBytes;
  } else {
    const int64_t row_tiles = ceil_div(m, kWideColumns) + (grouped != nullptr ? grouped->experts : 0);
    plan->grid = dim3(static_cast<unsigned>(ceil_div(n, kWideTile)), static_cast<unsigned>(row_tiles));
    plan->block = dim3(kWideThreads);
  }
  if (!room) {
    return unsupported(op, ": the kernel must find ", plan->shared_bytes, " bytes of shared memory, got ",
                       shared_per_block, "; use groups of at least 16 columns or a 16-bit x");
  }
  if (plan->grid.y > 65535 || plan->grid.z > 65535) {
    return invalid(op, ": M must be at most ", 65535 * (plan->narrow ? kNarrowColumns : kWideColumns), " on CUDA, got ",
                   m, "; cut x by rows");
  }
  return Status();
}

int64_t gemm_workspace(const char* op, const GemmArgs& args, const Device& device, bool exact) {
  GemmPlan plan;
  const Status status = plan_gemm(op, args, nullptr, device, exact, &plan);
  return status.ok() ? plan.workspace_bytes : 0;
}

Status run_gemm(const char* op, const GemmArgs& args, const GroupedRows* grouped, const Call& call, bool exact) {
  Device device;
  LOWBIT_RETURN_IF_ERROR(current_device(op, &device));
  if (args.m == 0 || args.n == 0) return Status();
  GemmPlan plan;
  LOWBIT_RETURN_IF_ERROR(plan_gemm(op, args, grouped, device, exact, &plan));
  LOWBIT_RETURN_IF_ERROR(check_workspace(op, call, plan.workspace_bytes));
  const GemmKernels* kernels = kernels_of(args, plan);
  if (plan.splits > 1) {
    const size_t counters = 4 * static_cast<size_t>(plan.grid.x) * plan.grid.z;
    plan.params.arrivals = static_cast<int32_t*>(call.workspace);
    plan.params.parts = static_cast<uint8_t*>(call.workspace) + round_up(static_cast<int64_t>(counters), 256);
    LOWBIT_RETURN_IF_ERROR(
        check_error(op, "cudaMemsetAsync", cudaMemsetAsync(call.workspace, 0, counters, call.stream)));
  }
  return launch(op, plan.narrow ? kernels->narrow : kernels->wide, plan.grid, plan.block, plan.shared_bytes,
                call.stream, plan.params);
}

std::string gemm_engines(const Arch& code) {
  std::string names = "int8 bfloat16 half";
  if (has_int4_mma(code.sm)) names += " int4";
  if (has_float8_mma(code.sm)) names += " float8";
  if (has_block_scaled_mma(code)) names += " block_scaled";
  return names;
}

}  // namespace lowbit::cuda
