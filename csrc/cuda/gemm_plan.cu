// What is chosen for a call of the GEMM, from its arguments and the properties of a device. Nothing here runs on one.
#include <algorithm>
#include <string>

#include "common/parallel.h"
#include "cuda/gemm.h"
#include "cuda/tile/stripes.cuh"

namespace lowbit::cuda {
namespace {

constexpr int32_t kLongestSegment = 131071;  // products of signed bytes that an int32 holds for certain
constexpr int32_t kWidestUnit = 512;
// FP8 sums in the tensor cores of sm_89 keep some 22 bits (SageAttention2, Zhang et al. 2024): they are joined in fp32
// so often, block-scaled ones too.
constexpr int32_t kFloat8Unit = 128;
constexpr int32_t kCodeColumns = 256;      // of a window of planes: a sector of each row
constexpr int64_t kCopyBytes = 16;         // cp.async of mma64 weights
constexpr int64_t kReservedShared = 1024;  // that CUDA takes for every block itself

bool has_int4_mma(int sm) { return sm >= 80 && sm < 90; }
bool has_block_scaled_mma(const Arch& code) { return code.suffix != 0 && code.sm >= 120 && code.sm < 130; }
bool has_float8_mma(int sm) { return sm == 89 || (sm >= 120 && sm < 130); }

uint32_t halves(uint32_t h) { return h | h << 16; }

uint32_t half_power(int e) { return halves(static_cast<uint32_t>(e + 15) << 10); }
uint32_t bfloat16_power(int e) { return halves(static_cast<uint32_t>(e + 127) << 7); }

bool is_byte(DType t) { return t == DType::kI8 || t == DType::kU8; }

bool is_byte_zero(const BlockValues& zero) { return zero && zero.codes.format == nullptr && is_byte(zero.dtype); }

// Integer zero points that only the device knows to be small.
bool has_far_zeros(const QMatrix& q) { return q.zero && q.zero.codes.format == nullptr && q.zero.dtype == DType::kI32; }

// |value| of a format on the integer path in the unit of its bytes (ByteMap), or with a zero point of 8 bits |value -
// zero|, at most.
int64_t widest_difference(const ElementFormat& f, const BlockValues& zero) {
  if (f.is_complex()) return 1;
  const int64_t unit = int64_t{1} << byte_map(f).shift;
  int64_t low = 0, high = 0;
  if (f.is_float()) {
    high = static_cast<int64_t>(decode(f, max_code(f)) * static_cast<float>(unit)), low = -high;
  } else {
    low = decode_int(f, f.rule == kUnsigned || f.rule == kBipolar ? 0u : 1u << (f.bits - 1));
    high = decode_int(f, max_code(f));
  }
  if (!is_byte_zero(zero)) return std::max(-low, high);
  const int64_t least = zero.dtype == DType::kI8 ? -128 : 0, most = least + 255;
  return std::max(high - least * unit, most * unit - low);
}

// How many 16-bit floats the values of an operand take: 1 where they are all exact, else as many as their bits ask for.
// Integers less int32 zero points, which the device alone knows to be small, take as many as any float.
int terms_of_codes(const ElementFormat& f, const BlockValues& zero, GemmEngine engine) {
  const int32_t exact = engine == GemmEngine::kHalf ? 2048 : 256;
  if (f.is_complex()) return 1;
  if (f.is_int() && (!zero || is_byte_zero(zero))) {
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

// The block-scaled multiply that the pair is made for: blocks alike along K in both operands, of any rows (a single row
// has one block along M whatever the rule, and must take the engine of many), and beside their scales at most one that
// all of a row share.
BlockScaled block_scaled_kind(const GemmArgs& args) {
  if (args.xq == nullptr) return BlockScaled::kNone;
  const auto blocks = [](const QMatrix& q) -> int64_t {  // columns of a block, 0: does not fit
    const BlockValues& v = q.scale;
    if (!v || v.codes.format == nullptr || q.zero || q.high != nullptr) return 0;
    if (v.second != nullptr && (v.second->block.cols != 0 || v.second->codes.format != nullptr ||
                                v.second->second != nullptr || v.second->dtype != DType::kF32)) {
      return 0;
    }
    if (v.codes.format == find_format("float8_e8m0fnu")) return v.block.cols == 32 ? 32 : 0;
    return v.codes.format == find_format("float8_e4m3fn") && v.block.cols == 16 ? 16 : 0;
  };
  const int64_t cols = blocks(args.w);
  if (cols == 0 || cols != blocks(*args.xq)) return BlockScaled::kNone;
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

int64_t most_parts(const GemmParams& p, int32_t unit) {
  int64_t parts = 1;
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
  p->unit_parts = static_cast<int32_t>(most_parts(*p, p->unit));
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
int64_t widest_byte(const ElementFormat& f) {
  return f.is_int() && f.bits == 8 ? 128 : widest_difference(f, BlockValues());
}

int64_t widest_value(const QMatrix& q) {
  const int64_t narrow = widest_difference(*q.codes.format, q.zero);
  return q.high == nullptr ? narrow : std::max(narrow, widest_difference(*q.high->format, q.zero));
}

// Columns of a segment up to which the wide loop is exact where it joins itself; longer ones are cut into parts that
// are joined in 64 bits. It sums products of bytes in int32, lifted ones included
// (weight_words.cuh), none above 128 * 128 in magnitude: hence kLongestSegment. Then it corrects the sum for offsets
// and zero points modulo 2^32. What comes between may wrap; I = sum (cw - zw) (cx - zx) itself is right where it is an
// int32, and |I| <= length max|cw - zw| max|cx - zx|. (Float zero points of w enter by a sum of their own, a smaller
// one.) `modular`: the correction needs no bound, of raw sums, which are those of int32 modulo 2^32, and where it takes
// 64 bits (GemmParams::far_zeros).
int64_t longest_segment(const GemmArgs& args, bool modular) {
  if (modular) return kLongestSegment;
  return std::min<int64_t>(kLongestSegment, INT32_MAX / (widest_value(args.w) * widest_value(*args.xq)));
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
  return !args.w.zero || is_byte_zero(args.w.zero);
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

// What int32 cannot count, and what a copy of 16 bytes cannot begin at.
Status check_arguments(const char* op, const GemmArgs& args, const GroupedRows* grouped) {
  const int64_t width = args.w.codes.format->is_complex() ? 2 : 1;
  for (const auto& [name, size] :
       {std::pair("M", args.m), std::pair("N", args.n * width), std::pair("K", args.k * width)}) {
    // sums of a place and a tile's size then stay below 2^31
    if (size > kMaxExtent) {
      return invalid(op, ": ", name, " must be at most ", kMaxExtent, " on CUDA, got ", size,
                     "; cut the product there");
    }
  }
  if (args.w.codes.layout != Layout::kMma64) return Status();
  const auto past = reinterpret_cast<uintptr_t>(args.w.codes.data) % kCopyBytes;
  if (past != 0) {
    return invalid(op, ": w must begin at a multiple of ", kCopyBytes, " bytes when prepacked, got ", past,
                   " bytes past one; copy it to memory of its own");
  }
  if (grouped != nullptr && grouped->w_step % kCopyBytes != 0) {
    return invalid(op, ": w must have experts a multiple of ", kCopyBytes, " bytes apart when prepacked, got ",
                   grouped->w_step, "; copy it to memory of its own");
  }
  return Status();
}

// Segments begin at multiples of these columns. What is scaled within a multiply cuts nothing.
void cut_segments(const GemmArgs& args, GemmEngine engine, GemmParams* p) {
  const bool block_scaled = engine == GemmEngine::kBlockScaled;
  if (!block_scaled) add_cut(args.w.scale ? args.w.scale.block.cols : 0, args.k, 0, p);
  add_cut(args.w.scale_imaginary ? args.w.scale_imaginary.block.cols : 0, args.k, 0, p);
  add_cut(args.w.zero ? args.w.zero.block.cols : 0, args.k, 0, p);
  add_cut(args.w.high != nullptr ? args.w.group : 0, args.k, 0, p);
  while (p->w_cuts < kMaxCuts && p->cuts[p->w_cuts] > 0) ++p->w_cuts;
  if (args.xq == nullptr) return;
  const int32_t first = p->w.is_complex ? p->w_cuts : 0;  // which of equal cuts are one
  if (!block_scaled) add_cut(args.xq->scale ? args.xq->scale.block.cols : 0, p->k, first, p);
  add_cut(args.xq->zero ? args.xq->zero.block.cols : 0, p->k, first, p);
  p->x_scaled = true;
  p->x_scale_joins = args.xq->scale && args.xq->scale.block.cols != 0;
}

void choose_terms(const GemmArgs& args, GemmEngine engine, GemmParams* p) {
  p->w_terms = p->x_terms = 1;
  if (is_integer(engine) || multiplies_codes(engine)) return;
  p->w_terms = terms_of_codes(args.w, engine);
  if (args.xq != nullptr) {
    p->x_terms = terms_of_codes(*args.xq, engine);
  } else if (engine == GemmEngine::kBFloat16) {
    p->x_terms = args.x.dtype == DType::kBF16 ? 1 : args.x.dtype == DType::kF16 ? 2 : 3;
  }
}

// Segments of a product and what they ask of a loop.
struct Segments {
  int32_t longest, unit;
  bool integer;
  bool far;      // integer zero points may lie anywhere
  bool is_long;  // int32 does not hold the sum of one
};

// ---- stripes of K in the wide loop (tile/stripes.cuh)

// What a product takes, in clocks, by the stripes that K is cut into. A step of a block is 8 clocks for each multiply
// of a warp, the tensor cores' peak, and what the barrier and the loads behind it cost, unless a second block on the
// multiprocessor hides that. A record is written by its block and read by all multiprocessors together, and the join is
// a launch. So what splitting costs are 4 bytes an output and part: in groups of 128, M / 8 times the bytes of 4-bit
// weights, in units of 512 columns M / 32 times. It pays where few tiles leave multiprocessors idle. 108 of them at N =
// K = 4096, bfloat16 by groups of 128: M = 32 has 32 tiles of 64 steps, 46,000 clocks, or in three stripes 24 steps, 15
// MB of records and the launch: 30,000. M = 128 has 64 tiles, two stripes of which would lie two on a multiprocessor.
constexpr int64_t kMultiplyClocks = 8, kStepClocks = 200, kLaunchClocks = 3000;
// Bytes a clock of a multiprocessor: of records that stay in the L2, which has 40 MB and more on most, and of more.
constexpr int64_t kRecordRate = 32, kSlowRate = 12, kCachedBytes = int64_t{32} << 20;
// Of a workspace, but where a segment is too long to do without.
constexpr int64_t kMostStripeBytes = int64_t{64} << 20;
// Stripes are multiples of kStepRing steps, of windows of codes and of units.
constexpr int64_t kStripeColumns = 512;
constexpr int64_t kLongUnit = 65536;  // where int32 does not hold the sum of a segment

struct Stripes {
  int64_t columns, count, parts, records, workspace_bytes;  // parts: most of one
  int32_t unit;
  bool first_joins;
};

int64_t greatest_common(int64_t a, int64_t b) { return b == 0 ? a : greatest_common(b, a % b); }

// Stripes of about `columns` columns; K: one. Those of floats are whole units. Those of integers are whole segments or,
// where these are longer, equal pieces of one, whose sums the join adds up.
Stripes stripes_of(GemmParams p, const Segments& segments, int64_t tiles, int64_t columns) {
  const bool integer = segments.integer, is_long = segments.is_long;
  const int64_t least = p.segment, power = least & -least;
  if (is_long) {
    columns = round_up(columns, kLongUnit);
  } else if (!integer || !p.even || least == 0) {
    columns = round_up(columns, kStripeColumns);
  } else if (least > columns && power >= kStripeColumns) {
    int64_t piece = kStripeColumns;
    while (piece < power && piece < columns) piece *= 2;
    columns = piece;
  } else {
    columns = round_up(columns, least / greatest_common(least, kStripeColumns) * kStripeColumns);
  }
  columns = std::min<int64_t>(columns, p.k);
  if (integer) {
    p.unit = static_cast<int32_t>(is_long ? kLongUnit : columns);
    even_parts(&p, true);
  }
  Stripes s{};
  s.columns = columns, s.count = ceil_div(p.k, columns), s.unit = p.unit;
  s.parts = p.even ? ceil_div(columns, p.part) : ceil_div(columns, p.unit) * most_parts(p, p.unit);
  s.first_joins = !integer;
  for (const int32_t cut : p.cuts) {
    s.first_joins = s.first_joins || (cut > 0 && columns % cut == 0 && !is_long && !p.w.is_complex);
  }
  s.first_joins = s.first_joins && !segments.far;
  if (p.raw) s.parts = 1, s.first_joins = false;
  s.records = tiles * (s.parts * s.count - (s.first_joins ? s.parts - 1 : 0));
  s.workspace_bytes = round_up(4 * tiles * s.count, 256) + s.records * StripeRecord::bytes(p.m);
  return s;
}

int64_t clocks_of(const GemmParams& p, const Stripes& s, int64_t tiles, int64_t multiprocessors) {
  int64_t pairs = 0;  // of terms
  for (int32_t i = 0; i < p.w_terms; ++i) pairs += std::min(p.x_terms, kMaxTerms - i);
  const int64_t multiplies = kWideTile / 16 * (kWideColumns / 8) / (kWideThreads / 32) * (kStepSlots / p.chunk) * pairs;
  const int64_t blocks = tiles * s.count, resident = ceil_div(blocks, multiprocessors);
  const int64_t step = resident * kMultiplyClocks * multiplies + ceil_div(resident, 2) * kStepClocks;
  const int64_t steps = ceil_div(s.columns, kStepSlots) * step;
  if (s.count == 1) return steps;
  const int64_t rate = s.workspace_bytes > kCachedBytes ? kSlowRate : kRecordRate;
  const int64_t written = s.workspace_bytes / rate;
  return steps + written / std::min(blocks, multiprocessors) + written / multiprocessors + kLaunchClocks;
}

// A count of 1: K is not shared, but for its parts where `is_long`. What is estimated must be less by an eighth.
Stripes choose_stripes(const GemmParams& p, const Segments& segments, int64_t tiles, int64_t multiprocessors) {
  const Stripes whole = stripes_of(p, segments, tiles, p.k);
  Stripes best = whole;
  if (p.offs != nullptr) return best;  // how many tiles have rows is not known here
  int64_t least = clocks_of(p, whole, tiles, multiprocessors) * 7 / 8;
  const int64_t most = std::min(2 * multiprocessors / std::max<int64_t>(tiles, 1), ceil_div(p.k, kStripeColumns));
  for (int64_t count = 2; count <= most; count += count / 4 + 1) {
    const Stripes s = stripes_of(p, segments, tiles, ceil_div(p.k, count));
    const int64_t clocks = clocks_of(p, s, tiles, multiprocessors);
    if (s.count > most || s.workspace_bytes > kMostStripeBytes || clocks >= least) continue;
    best = s, least = clocks;
  }
  return best;
}

// How weights and rows of x come to the tensor cores, which the loop has a say in. `far`: has_far_zeros of an operand.
void choose_loads(const GemmArgs& args, bool far, int32_t longest, GemmPlan* plan) {
  GemmParams& p = plan->params;
  const bool integer = is_integer(plan->engine);
  p.w.bytes = integer ? byte_map(*args.w.codes.format) : ByteMap();
  plan->bits = 0, plan->float_weights = false, p.flip = 0;
  // the narrow loop and stripes join in 64 bits whatever the zero points
  p.far_zeros = far && !plan->narrow && p.stripe_parts == 0;
  p.x_async = copied_rows(args, plan->engine, p);
  const bool in_registers = !p.far_zeros && decode_in_registers(args, plan->engine, &p, &plan->float_weights);
  const bool nibbles = plan->engine == GemmEngine::kInt4 || plan->blocks >= BlockScaled::kMxFloat4;
  if (in_registers && (!plan->narrow || streams(p, nibbles))) {
    plan->bits = args.w.codes.format->bits;
  } else {
    plan->float_weights = false, p.flip = 0;
    p.w.bytes = integer ? byte_map(*args.w.codes.format) : ByteMap();
  }
  p.mma64_order = in_registers && plan->bits == 0;
  if (!integer) return;
  p.x_sums = p.w.has_zero || p.w.bytes.offset != 0;
  p.w_sums = p.x.has_zero || p.x.bytes.offset != 0;
  const bool lifted = plan->bits > 0 && !plan->float_weights && plan->engine == GemmEngine::kInt8;
  const int64_t w_byte = lifted ? 128 : widest_byte(*args.w.codes.format);
  const int64_t sum = longest * w_byte * widest_byte(*args.xq->codes.format);
  p.small_sums = args.w.high == nullptr && !p.far_zeros && sum < 1 << 22;
}

// The stages of a loop, 0: not even `least` fit a block. As many as there is room for, but where three or more still
// leave room for a second block on the multiprocessor, so few: what one block waits for the other hides.
template <class Bytes>
int choose_stages(const Device& device, int least, int most, const Bytes& bytes) {
  int stages = most;
  while (stages >= least && bytes(stages) > device.shared_per_block) --stages;
  if (stages < least) return 0;
  for (int fewer = stages; fewer >= 3; --fewer) {
    if (2 * (bytes(fewer) + kReservedShared) <= device.shared_per_multiprocessor) return fewer;
  }
  return stages;
}

int64_t tiles_of(const GemmParams& p, int64_t rows, int64_t columns) {
  return ceil_div(p.n, rows) * (ceil_div(p.m, columns) + p.experts);
}

// Plans one of the two loops; false: it finds too little shared memory.
bool fit_loop(const GemmArgs& args, const Device& device, bool narrow, const Segments& segments, GemmPlan* plan) {
  GemmParams& p = plan->params;
  const bool integer = is_integer(plan->engine);
  plan->narrow = narrow;
  p.unit = segments.unit;
  even_parts(&p, !integer || narrow);
  if (plan->engine == GemmEngine::kInt4 || plan->blocks >= BlockScaled::kMxFloat4) p.chunk = kStepSlots;
  const int64_t tile = narrow ? kNarrowTile : kWideTile, columns = narrow ? kNarrowColumns : kWideColumns;
  const int64_t tiles = tiles_of(p, tile, columns);
  p.across = Divisor(ceil_div(p.n, tile));
  plan->splits = 1, plan->workspace_bytes = 0;
  p.stripe = p.stripe_parts = 0;
  if (!narrow) {
    const Stripes s = choose_stripes(p, segments, tiles, device.multiprocessors);
    if (s.count > 1 || segments.is_long) {
      plan->splits = static_cast<int32_t>(s.count), plan->workspace_bytes = s.workspace_bytes;
      p.stripe = static_cast<int32_t>(s.columns), p.stripe_parts = static_cast<int32_t>(s.parts), p.unit = s.unit;
      p.first_joins = s.first_joins;
      even_parts(&p, true);
    }
  }
  choose_loads(args, segments.far, segments.longest, plan);
  plan->kernels = kernels_of(args, *plan);
  if (narrow) {
    const int64_t units = ceil_div(p.k, p.unit);
    // no block with fewer units than warps
    const int64_t most = std::clamp<int64_t>(2 * device.multiprocessors / std::max<int64_t>(tiles, 1), 1,
                                             std::max<int64_t>(units / kNarrowWarps, 1));
    plan->splits = static_cast<int32_t>(ceil_div(units, ceil_div(units, most)));
    if (plan->splits > 1) plan->workspace_bytes = round_up(4 * tiles, 256) + tiles * units * p.unit_parts * kPartBytes;
  }
  plan->tiles = tiles;
  plan->grid = dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(plan->splits));
  plan->block = dim3(narrow ? kNarrowWarps * 32 : kWideThreads);
  const auto bytes = [&](int stages) {
    return narrow ? plan->kernels->narrow_shared(p, stages, plan->splits > 1) : plan->kernels->wide_shared(p, stages);
  };
  const bool rows = plan->bits == 0;
  p.w_tiles = rows && p.linear && steps_have(p, [](const CodeSource& s) { return s.mma64; });
  p.code_windows = rows && (!narrow || p.linear) && steps_have(p, [](const CodeSource& s) { return s.has_planes(); });
  // of mixed widths a stripe would begin within windows
  p.code_windows = p.code_windows && (narrow || plan->splits == 1 || p.w.high_groups == nullptr);
  const auto set_turn = [&] {  // a warp has the columns of a window of codes
    p.turn_units = narrow && p.code_windows ? std::max(kCodeColumns / p.unit, 1) : 1;
    if (!narrow) return;
    for (ValueWindow* w : {&p.w.scale_window, &p.w.zero_window, &p.x.scale_window, &p.x.zero_window}) {
      w->set_ring(int64_t{3} * kNarrowWarps * p.turn_units * p.unit);  // turns that are in use, next, under way
    }
  };
  set_turn();
  int least = 2;
  const auto choose = [&] { return plan->stages = choose_stages(device, least, rows ? 2 : kMostStages, bytes); };
  if (choose() == 0) {  // with fewer windows there may be room
    p.code_windows = false;
    set_turn();
    if (choose() == 0) {
      p.w.scale_window = p.w.zero_window = p.x.scale_window = p.x.zero_window = ValueWindow();
      // rows of floats through registers: copies ahead of the multiplies are x's alone, and a block can do without
      if (choose() == 0 && !narrow && rows && !integer && !multiplies_codes(plan->engine)) {
        least = 1;
        choose();
      }
    }
  }
  p.stages = std::max(plan->stages, least);
  plan->shared_bytes = bytes(p.stages);
  return plan->stages != 0;
}

Status check_grid(const char* op, const GemmPlan& plan) {
  if (plan.tiles < int64_t{1} << 31) return Status();
  return invalid(op, ": out must have less than 2^31 tiles on CUDA, got ", plan.tiles, "; cut x by rows");
}

}  // namespace

Status plan_gemm(const char* op, const GemmArgs& args, const GroupedRows* grouped, const Device& device, bool exact,
                 GemmPlan* plan) {
  *plan = GemmPlan();
  LOWBIT_RETURN_IF_ERROR(check_arguments(op, args, grouped));
  GemmParams& p = plan->params;
  p.w = Operand(args.w, args.n);
  p.x = args.xq != nullptr ? Operand(*args.xq, args.m) : Operand(args.x);
  const int64_t width = args.w.codes.format->is_complex() ? 2 : 1;
  p.m = static_cast<int32_t>(args.m), p.n = p.w.rows, p.k = static_cast<int32_t>(args.k * width);
  plan->engine = engine_of(args, device.code, exact);
  if (plan->engine == GemmEngine::kBlockScaled) plan->blocks = block_scaled_kind(args);
  const bool integer = is_integer(plan->engine);
  if (!integer) p.w.bytes = p.x.bytes = ByteMap();
  cut_segments(args, plan->engine, &p);
  cut_k(plan->engine, &p);
  choose_terms(args, plan->engine, &p);
  p.raw = args.out.dtype == DType::kI32;
  p.bias = args.bias, p.bias_dtype = args.bias_dtype, p.bias_stride = args.bias_stride;
  p.outliers = args.w.outliers;
  p.out = args.out;
  if (grouped != nullptr) {
    p.offs = grouped->offs, p.experts = grouped->experts;
    p.w_step = grouped->w_step, p.w_scale_step = grouped->w_scale_step, p.w_second_step = grouped->w_second_step;
    p.w_zero_step = grouped->w_zero_step, p.bias_step = grouped->bias_step;
    p.w.low.codes.wide = p.w.low.codes.wide && p.w_step % kVector == 0;
    if (p.w_scale_step % 4 != 0) p.w.scale_window = ValueWindow();
    if (p.w_zero_step % 4 != 0) p.w.zero_window = ValueWindow();
  }

  int32_t longest = p.k;
  for (const int32_t cut : p.cuts) longest = cut > 0 ? std::min(longest, cut) : longest;
  const bool far = integer && !p.raw && (has_far_zeros(args.w) || has_far_zeros(*args.xq));
  const bool is_long = integer && longest > longest_segment(args, p.raw || far);
  const Segments segments{longest, p.unit, integer, far, is_long};
  bool narrow_first = grouped == nullptr && args.m <= kNarrowRows;
  if (is_long && grouped == nullptr) {  // records of many rows would be large
    const int64_t tiles = tiles_of(p, kWideTile, kWideColumns);
    narrow_first = narrow_first || stripes_of(p, segments, tiles, p.k).workspace_bytes > kMostStripeBytes;
  }
  const GemmParams before = p;
  if (fit_loop(args, device, narrow_first, segments, plan)) return check_grid(op, *plan);
  p = before;
  if (grouped == nullptr && fit_loop(args, device, !narrow_first, segments, plan)) {
    return check_grid(op, *plan);
  }
  return unsupported(op, ": the kernel must find ", plan->shared_bytes, " bytes of shared memory, got ",
                     device.shared_per_block, "; use groups of at least 16 columns or a 16-bit x");
}

Status choose_gemm(const char* op, const GemmArgs& args, const GroupedRows* grouped, const Device& device, bool exact,
                   GemmChoice* choice) {
  GemmPlan plan;
  LOWBIT_RETURN_IF_ERROR(plan_gemm(op, args, grouped, device, exact, &plan));
  *choice = plan;
  return Status();
}

std::string gemm_engines(const Arch& code) {
  std::string names = "int8 bfloat16 half";
  if (has_int4_mma(code.sm)) names += " int4";
  if (has_float8_mma(code.sm)) names += " float8";
  if (has_block_scaled_mma(code)) names += " block_scaled";
  return names;
}

}  // namespace lowbit::cuda
