// quantize, dequantize, embedding: checks, views, calls.
#include "ref/quantize.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <tuple>
#include <vector>

#include "cpu/dispatch.h"
#include "torch/args.h"
#include "torch/backend.h"

namespace lowbit::bind {
namespace {

using Sizes = std::vector<int64_t>;
using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;

Tensor absent() { return empty({0}, ScalarType::Float); }

char* bytes(const Tensor& t, int64_t offset) { return static_cast<char*>(t.data_ptr()) + offset; }

// Sizes of `lead` and `last`.
Sizes join(Sizes lead, const Sizes& last) {
  lead.insert(lead.end(), last.begin(), last.end());
  return lead;
}

// Shape and dtype of the canonical codes of a rows x cols matrix.
Sizes canonical_sizes(const ElementFormat& f, int64_t rows, int64_t cols) {
  const int64_t width = canonical_row(canonical(f), cols);
  if (canonical(f) == Canonical::kPlanes) return {f.bits, rows, width};
  return {rows, width};
}
ScalarType canonical_type(const ElementFormat& f) {
  return canonical(f) == Canonical::kPlanes ? ScalarType::Int : ScalarType::Byte;
}

// The arguments of quantize, read and checked.
struct Request {
  Spec spec;
  Layout layout = Layout::kCanonical;
  Matrix x;  // all matrices of the batch, one under another
  Sizes lead;
  int64_t batch = 1, rows = 0, cols = 0;
  DType scale_dtype = DType::kF32;
  Tensor hold;
};

Layout layout_asked(const std::string& layout, const Spec& spec) {
  if (layout == "canonical") return spec.layout;
  if (layout == "plain") return Layout::kPlain;
  if (layout == "tile16") return Layout::kTile16;
  if (layout == "mma64") return Layout::kMma64;
  check(invalid("quantize: layout must be \"canonical\", \"plain\", \"tile16\" or \"mma64\", got \"", layout,
                "\"; leave it out for the canonical layout"));
  return Layout::kCanonical;
}

DType scale_dtype_asked(std::optional<ScalarType> asked) {
  const ScalarType t = asked.value_or(ScalarType::Float);
  if (t != ScalarType::Float && t != ScalarType::BFloat16 && t != ScalarType::Half) {
    check(invalid("quantize: scale_dtype must be float32, bfloat16 or float16, got ", dtype_name(t),
                  "; coded scales are part of the format, as in \"int4:g32/float8_e4m3fn\""));
  }
  return t == ScalarType::Float ? DType::kF32 : t == ScalarType::BFloat16 ? DType::kBF16 : DType::kF16;
}

// Complex x, as complex64 or as float pairs in a last dimension of 2, becomes rows of pairs.
void view_complex(const Tensor& x, Request* q) {
  const bool pairs = x.scalar_type() != ScalarType::ComplexFloat;
  const int64_t d = x.dim() - (pairs ? 1 : 0);
  if (d < 2 || (pairs && x.size(d) != 2)) {
    check(invalid("quantize: x must be complex64 [..., rows, K] or floats [..., rows, K, 2] for format complex2, got ",
                  dtype_name(x.scalar_type()), " ", shape(x), "; use torch.view_as_real"));
  }
  q->hold = backend::visible(torch::stable::contiguous(x));
  q->x.dtype = pairs ? float_dtype("quantize", "x", x) : DType::kF32;
  q->x.data = q->hold.data_ptr();
  q->rows = x.size(d - 2);
  q->cols = x.size(d - 1);
  for (int64_t i = 0; i + 2 < d; ++i) q->lead.push_back(x.size(i));
  q->x.cols = q->x.row_stride = 2 * q->cols;
}

Request read(const Tensor& x, const std::string& format, const std::string& layout,
             std::optional<ScalarType> scale_dtype) {
  Request q;
  check(parse_spec("quantize", "format", format, &q.spec));
  check_device("quantize", "x", x);
  q.layout = layout_asked(layout, q.spec);
  q.scale_dtype = scale_dtype_asked(scale_dtype);
  if (q.spec.element->is_complex()) {
    view_complex(x, &q);
  } else {
    if (x.dim() < 2) {
      check(invalid("quantize: x must be [..., rows, K], got shape ", shape(x), "; give one row as x[None]"));
    }
    float_dtype("quantize", "x", x);
    q.x = rows_of("quantize", "x", x, &q.hold);
    q.rows = x.size(x.dim() - 2);
    q.cols = x.size(x.dim() - 1);
    for (int64_t i = 0; i + 2 < x.dim(); ++i) q.lead.push_back(x.size(i));
  }
  if (q.cols == 0) check(invalid("quantize: x must have at least 1 column, got shape ", shape(x), "; drop the call"));
  check_rows_of_tiles("quantize", "x", q.spec, q.layout, q.rows);
  for (int64_t n : q.lead) q.batch *= n;
  q.x.rows = q.batch * q.rows;
  return q;
}

void check_hadamard(int64_t size, const Request& q) {
  const bool power = size > 0 && (size & (size - 1)) == 0;
  if (size != 0 && (!power || size > kMaxFusedHadamard || q.cols % size != 0 || q.spec.element->is_complex())) {
    check(invalid("quantize: hadamard must be a power of two up to ", kMaxFusedHadamard, " that divides K = ", q.cols,
                  " of real values, got ", size, "; call lowbit.hadamard first for other sizes"));
  }
}

Philox random_of(const std::string& rounding, const OptTensor& seed, const Spec& spec) {
  if (rounding == "nearest") return Philox();
  if (rounding != "stochastic") {
    check(invalid("quantize: rounding must be \"nearest\" or \"stochastic\", got \"", rounding, "\"; see lowbit.ops"));
  }
  if (spec.element->is_complex()) {
    check(invalid("quantize: rounding must be \"nearest\" for complex2, got \"stochastic\"; a phase class has no ",
                  "neighbours"));
  }
  if (!seed) {
    check(invalid("quantize: seed must be given for stochastic rounding, got None; pass torch.tensor([seed, offset])"));
  }
  const Seed s = seed_of("quantize", *seed);
  return {s.seed, s.offset};
}

// Given scales or zero points: values for one matrix, and bytes from a matrix to the next (0: shared by all).
struct Given {
  BlockValues values;
  int64_t step = 0;
  Tensor hold;

  BlockValues of(int64_t b) const {
    BlockValues v = values;
    if (!v) return v;
    v.data = static_cast<const char*>(v.data) + b * step;
    if (v.codes.format != nullptr) v.codes.data = v.data;
    return v;
  }
};

Given given(const char* name, const OptTensor& t, const ElementFormat* format, Block block, int64_t rows, int64_t cols,
            const Request& q, bool zero) {
  Given g;
  if (!t) return g;
  const auto lead = static_cast<int64_t>(q.lead.size());
  const int64_t rank = format != nullptr && canonical(*format) == Canonical::kPlanes ? 3 : 2;
  if (lead == 0 || t->dim() <= rank) {
    g.values = values_view("quantize", name, *t, format, block, rows, cols, 0, zero, &g.hold);
    return g;
  }
  bool fits = t->dim() == lead + rank;
  for (int64_t i = 0; fits && i < lead; ++i) fits = t->size(i) == q.lead[static_cast<size_t>(i)];
  if (!fits) {
    check(invalid("quantize: ", name, " must have the leading dimensions of x, or none, got shape ", shape(*t),
                  "; expand it"));
  }
  const Tensor flat = backend::visible(torch::stable::flatten(*t, 0, lead - 1));
  g.values = values_view("quantize", name, flat, format, block, rows, cols, 1, zero, &g.hold);
  g.step = g.hold.stride(0) * static_cast<int64_t>(g.hold.element_size());
  return g;
}

// A new tensor for block values and the store over its first matrix.
Tensor make_store(const Sizes& lead, int64_t copies, int64_t rows, int64_t cols, DType dtype,
                  const ElementFormat* format, BlockStore* store) {
  *store = {nullptr, dtype, format, rows, cols};
  Sizes last = format != nullptr ? canonical_sizes(*format, rows, cols) : Sizes{rows, cols};
  if (copies > 1) last.insert(last.begin(), copies);
  Tensor t = empty(join(lead, last), format != nullptr ? canonical_type(*format) : scalar_type(dtype));
  store->data = t.data_ptr();
  return t;
}

Four quantize(const Tensor& x, std::string format, OptTensor scale, OptTensor zero, OptTensor scale2, OptTensor table,
              bool asymmetric, std::string rounding, OptTensor seed, int64_t hadamard,
              std::optional<ScalarType> scale_dtype, std::string layout) {
  backend::raise_earlier_findings();
  Request q = read(x, format, layout, scale_dtype);
  const Spec& spec = q.spec;
  check_hadamard(hadamard, q);
  QuantizeArgs args;
  args.random = random_of(rounding, seed, spec);
  args.stochastic = rounding == "stochastic";
  args.hadamard = hadamard;
  args.scaling.spec = spec;
  args.scaling.asymmetric = asymmetric;
  OptTensor table_hold;
  const float* codebook = codebook_of("quantize", "table", *spec.element, table, &table_hold);
  args.scaling.codebook = backend::kReadsValues ? codebook : nullptr;
  check(check_scaling(args.scaling));
  args.scaling.codebook = codebook;
  if (!scale && (zero || scale2)) {
    check(invalid("quantize: scale must be given together with ", zero ? "zero" : "scale2",
                  ", got None; leave all of them out to compute them"));
  }
  if (scale && ((asymmetric && !zero) || (scale2.has_value() != spec.scale_has_scale))) {
    check(invalid("quantize: ", asymmetric && !zero ? "zero" : "scale2", " must be given with scale exactly where \"",
                  format, "\" has one, got ", scale2 ? "a tensor" : "None"));
  }

  // A batch whose matrices are stored like rows of one tall matrix is one.
  const bool planes = canonical(*spec.element) == Canonical::kPlanes && q.layout == Layout::kCanonical;
  const bool coded_planes = spec.scale != nullptr && canonical(*spec.scale) == Canonical::kPlanes;
  const bool tall = q.batch > 1 && spec.block.rows == 1 && !planes && !coded_planes && !spec.scale_has_scale &&
                    !is_tiled(q.layout) && !spec.element->is_complex() && (!scale || scale->dim() <= 2) &&
                    (!zero || zero->dim() <= 2);
  const int64_t count = tall ? 1 : q.batch, rows = tall ? q.batch * q.rows : q.rows;

  // values of blocks: of one matrix
  const int64_t block_rows = Block::count(q.rows, spec.block.rows), groups = Block::count(q.cols, spec.block.cols);
  Given s, z, s2;
  Tensor scale_out = absent(), zero_out = absent(), scale2_out = absent();
  if (scale) {
    s = given("scale", scale, spec.scale, spec.block, rows, q.cols, q, false);
    z = given("zero", zero, nullptr, spec.block, rows, q.cols, q, true);
    s2 = given("scale2", scale2, nullptr, spec.scale_block, block_rows, groups, q, false);
    s.values.unit = spec.unit;
  } else {
    Scaling& to = args.scaling;
    scale_out = make_store(q.lead, spec.element->is_complex() ? 2 : 1, block_rows, groups, q.scale_dtype, spec.scale,
                           &to.scale);
    if (spec.scale_has_scale) {
      scale2_out = make_store(q.lead, 1, Block::count(block_rows, spec.scale_block.rows),
                              Block::count(groups, spec.scale_block.cols), q.scale_dtype, nullptr, &to.scale2);
    }
    if (asymmetric) zero_out = make_store(q.lead, 1, block_rows, groups, DType::kU8, nullptr, &to.zero);
    if (tall) to.scale.rows = to.zero.rows = rows;
    if (q.rows == 0) {  // a scale for the whole of nothing is that of zeros
      for (const Tensor& t : {scale_out, zero_out, scale2_out}) {
        torch::stable::fill_(t, t.scalar_type() == scalar_type(q.scale_dtype) ? 1.0 : 0.0);
      }
    }
  }

  const ElementFormat& f = *spec.element;
  const bool sign = f.is_int() && (f.rule == kSigned || f.rule == kTernary);
  Tensor codes = q.layout == Layout::kCanonical
                     ? empty(join(q.lead, canonical_sizes(f, q.rows, q.cols)), canonical_type(f))
                     : empty(join(q.lead, {q.rows, q.cols}),
                             sign && q.layout == Layout::kPlain ? ScalarType::Char : ScalarType::Byte);
  Tensor tiles = codes;
  if (is_tiled(q.layout)) {
    tiles = empty(
        join(q.lead, {ceil_div(rows, kTileRows), ceil_div(q.cols, tile_cols(q.layout)), tile_bytes(q.layout, f.bits)}),
        ScalarType::Byte);
  }
  auto step = [&](const Tensor& t) {
    return t.numel() / std::max<int64_t>(count, 1) * static_cast<int64_t>(t.element_size());
  };
  args.layout = q.layout == Layout::kCanonical ? Layout::kCanonical : Layout::kPlain;
  args.rows = rows;
  args.cols = q.cols;
  for (int64_t b = 0; b < count && rows > 0; ++b) {
    args.x = q.x;
    args.x.rows = rows;
    args.x.data = static_cast<char*>(q.x.data) + b * rows * q.x.row_stride * size_of(q.x.dtype);
    args.first_row = b * rows;
    const BlockValues second = s2.of(b);
    args.scale = s.of(b);
    if (second) args.scale.second = &second;
    args.zero = z.of(b);
    args.codes = bytes(codes, b * step(codes));
    if (!scale) {
      args.scaling.scale.data = bytes(scale_out, b * step(scale_out));
      if (spec.scale_has_scale) args.scaling.scale2.data = bytes(scale2_out, b * step(scale2_out));
      if (asymmetric) args.scaling.zero.data = bytes(zero_out, b * step(zero_out));
    }
    if (scale && backend::kReadsValues) check(ref::check_given(args));
    cpu::ran("quantize:ref");
    check(backend::kernels().quantize(args, torch_parallel()));
    if (is_tiled(q.layout)) {
      Codes plain;
      plain.data = args.codes;
      plain.format = &f;
      plain.layout = Layout::kPlain;
      plain.rows = rows;
      plain.cols = plain.row_stride = q.cols;
      check(backend::kernels().prepack(plain, q.layout, reinterpret_cast<uint8_t*>(bytes(tiles, b * step(tiles))),
                                       torch_parallel()));
    }
  }
  return {tiles, scale_out, zero_out, scale2_out};
}

// A quantized matrix of any number of leading dimensions, taken as one.
struct Weights {
  Spec spec;
  Sizes lead;
  Tensor codes;
  OptTensor scale, zero, scale2;
  QView view;
  Hold hold;
};

void read_weights(const char* op, const Tensor& w, const OptTensor& scale, const OptTensor& zero,
                  const std::string& format, int64_t k, const OptTensor& scale2, const OptTensor& table, Weights* out) {
  check(parse_spec(op, "format", format, &out->spec));
  check_device(op, "w", w);
  if (k < 1) check(invalid(op, ": k must be at least 1, got ", k, "; it is the number of columns of w"));
  const int64_t rank = codes_rank(*out->spec.element, layout_of(out->spec, w));
  const int64_t lead = std::max<int64_t>(w.dim() - rank, 0);
  for (int64_t i = 0; i < lead; ++i) out->lead.push_back(w.size(i));
  auto flat = [&](const Tensor& t) {
    return lead > 1 && t.dim() >= lead ? backend::visible(torch::stable::flatten(t, 0, lead - 1)) : t;
  };
  auto flat_if = [&](const OptTensor& t) { return t ? OptTensor(flat(*t)) : OptTensor(); };
  out->codes = flat(w);
  out->scale = flat_if(scale);
  out->zero = flat_if(zero);
  out->scale2 = flat_if(scale2);
  out->view = quantized({op, "w", out->codes, out->scale, out->zero, out->scale2, table, format, true}, k, lead > 0,
                        &out->hold);
}

Tensor dequantize(const Tensor& w, OptTensor scale, OptTensor zero, std::string format, int64_t k, OptTensor scale2,
                  OptTensor table, std::optional<ScalarType> asked) {
  backend::raise_earlier_findings();
  const DType dtype = out_dtype("dequantize", asked, DType::kF32);
  Weights m;
  read_weights("dequantize", w, scale, zero, format, k, scale2, table, &m);
  const bool pairs = m.spec.element->is_complex();
  const int64_t rows = m.view.matrix.codes.rows, width = pairs ? 2 * k : k;
  Tensor out = empty(join(m.lead, pairs ? Sizes{rows, k, 2} : Sizes{rows, k}), scalar_type(dtype));
  for (int64_t e = 0; e < m.view.experts; ++e) {
    BlockValues second;
    DequantizeArgs args;
    args.w = m.view.expert(e, &second);
    args.rows = rows;
    args.out = {bytes(out, e * rows * width * size_of(dtype)), dtype, rows, width, width, 1};
    cpu::ran("dequantize:ref");
    check(backend::kernels().dequantize(args, torch_parallel()));
  }
  return out;
}

Tensor embedding(const Tensor& ids, const Tensor& w, OptTensor scale, OptTensor zero, std::string format, int64_t k,
                 OptTensor scale2, OptTensor table, std::optional<ScalarType> asked) {
  backend::raise_earlier_findings();
  const DType dtype = out_dtype("embedding", asked, DType::kF32);
  check_device("embedding", "ids", ids);
  if (ids.scalar_type() != ScalarType::Long && ids.scalar_type() != ScalarType::Int) {
    check(invalid("embedding: ids must be int64 or int32, got ", dtype_name(ids.scalar_type()),
                  "; use .to(torch.int64)"));
  }
  Weights m;
  read_weights("embedding", w, scale, zero, format, k, scale2, table, &m);
  if (!m.lead.empty()) {
    check(invalid("embedding: w must be one matrix, got shape ", shape(w), "; select one of them"));
  }
  const Tensor dense = backend::visible(torch::stable::contiguous(
      ids.scalar_type() == ScalarType::Long ? ids : torch::stable::to(ids, ScalarType::Long)));
  const auto* rows = static_cast<const int64_t*>(dense.data_ptr());
  const int64_t count = dense.numel();
  for (int64_t i = 0; i < count && backend::kReadsValues; ++i) {
    if (rows[i] < 0 || rows[i] >= m.view.matrix.codes.rows) {
      check(invalid("embedding: ids must be in 0 .. ", m.view.matrix.codes.rows - 1, ", got ", rows[i], " at position ",
                    i, "; the matrix has ", m.view.matrix.codes.rows, " rows"));
    }
  }
  const bool pairs = m.spec.element->is_complex();
  Sizes sizes;
  for (int64_t i = 0; i < ids.dim(); ++i) sizes.push_back(ids.size(i));
  sizes.push_back(k);
  if (pairs) sizes.push_back(2);
  Tensor out = empty(sizes, scalar_type(dtype));
  DequantizeArgs args;
  args.op = "embedding";
  args.w = m.view.matrix;
  args.rows = count;
  args.ids = static_cast<const int64_t*>(dense.data_ptr());
  const int64_t width = pairs ? 2 * k : k;
  args.out = {out.data_ptr(), dtype, count, width, width, 1};
  cpu::ran("dequantize:ref");
  check(backend::kernels().dequantize(args, torch_parallel()));
  return out;
}

}  // namespace
}  // namespace lowbit::bind

LOWBIT_LIBRARY_IMPL(m) {
  m.impl("quantize", LOWBIT_BOX(&lowbit::bind::quantize));
  m.impl("dequantize", LOWBIT_BOX(&lowbit::bind::dequantize));
  m.impl("embedding", LOWBIT_BOX(&lowbit::bind::embedding));
}
