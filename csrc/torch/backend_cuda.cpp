#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>

#include <memory>
#include <new>
#include <optional>
#include <string>

#include "cuda/bitplane_gemm.h"
#include "cuda/c_api/entry.h"
#include "cuda/dequant_gemm.h"
#include "cuda/grouped_gemm.h"
#include "cuda/hadamard.h"
#include "cuda/input_grad.h"
#include "cuda/launch.h"
#include "cuda/pack.h"
#include "cuda/prepack.h"
#include "cuda/quantize.h"
#include "cuda/scaled_gemm.h"
#include "cuda/stochastic_round.h"
#include "torch/backend.h"
#if defined(LOWBIT_BACKEND_EMULATED)
#include "torch/device/emulated.h"
#else
#include "torch/device/cuda.h"
#endif
#include "torch/device/findings.h"

namespace lowbit::bind::backend {
namespace {

std::optional<device::Guard>& guard() {
  static thread_local std::optional<device::Guard> g;
  return g;
}

Tensor& seed_now() {
  static thread_local Tensor t;
  return t;
}

std::pair<const void*, int64_t> extent(const Tensor& t) {
  if (t.numel() == 0) return {nullptr, 0};
  int64_t last = 0;
  for (int64_t d = 0; d < t.dim(); ++d) last += (t.size(d) - 1) * t.stride(d);
  return {t.data_ptr(), (last + 1) * static_cast<int64_t>(t.element_size())};
}

// The workspace and the findings of one launch.
class Launch {
 public:
  explicit Launch(int64_t workspace_bytes) {
    call_.stream = device::stream();
    call_.device = device::properties();
    call_.allocate = &Launch::allocate;
    call_.context = this;
    if (seed_now().defined()) call_.seed = static_cast<const int64_t*>(seed_now().data_ptr());
    if (workspace_bytes > 0) {
      call_.workspace = reserve(workspace_bytes);
      call_.workspace_bytes = workspace_bytes;
    }
  }
  // Of an op that looks at values.
  Launch(int64_t workspace_bytes, device::Op op) : Launch(workspace_bytes) {
    check(device::Findings::of(device::index()).word(op, &call_.findings));
  }

  Launch(const Launch&) = delete;

  const cuda::Call& call() const { return call_; }

  // Waits for what was launched, and raises what it found; in a capture, where nothing may wait, that comes later.
  Status wait(const char* op) const {
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    LOWBIT_RETURN_IF_ERROR(
        cuda::check_error(op, "cudaStreamIsCapturing", cudaStreamIsCapturing(call_.stream, &capture)));
    if (capture != cudaStreamCaptureStatusNone) return Status();
    LOWBIT_RETURN_IF_ERROR(cuda::check_error(op, "cudaStreamSynchronize", cudaStreamSynchronize(call_.stream)));
    return device::Findings::of(device::index()).take();
  }

 private:
  void* reserve(int64_t bytes) {
    workspace_ = empty({bytes + 256}, ScalarType::Byte);
    const auto address = reinterpret_cast<uintptr_t>(workspace_.data_ptr());
    return reinterpret_cast<void*>((address + 255) / 256 * 256);
  }
  // Of Call: for launchers that learn the size while they plan.
  static void* allocate(void* launch, int64_t bytes) {
    try {
      return static_cast<Launch*>(launch)->reserve(bytes);
    } catch (const std::exception&) {
      return nullptr;
    }
  }

  Tensor workspace_;
  cuda::Call call_;
};

// ---- the entries of the table; the CPU's threads are not used

Status pack(const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows, int64_t cols, void* out,
            const Parallel&) {
  const Launch launch(0, device::Op::kPack);
  LOWBIT_RETURN_IF_ERROR(cuda::pack(f, codes, row_stride, rows, cols, out, launch.call()));
  return launch.wait("pack");
}
Status unpack(const Codes& packed, uint8_t* out, const Parallel&) {
  return cuda::unpack(packed, out, Launch(0).call());
}
Status pack_order(Order order, const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows,
                  int64_t cols, void* out, const Parallel&) {
  const Launch launch(0, device::Op::kPack);
  LOWBIT_RETURN_IF_ERROR(cuda::pack_order(order, f, codes, row_stride, rows, cols, out, launch.call()));
  return launch.wait("pack");
}
Status unpack_order(Order order, const ElementFormat& f, const void* packed, int64_t rows, int64_t cols, uint8_t* out,
                    const Parallel&) {
  return cuda::unpack_order(order, f, packed, rows, cols, out, Launch(0).call());
}
Status prepack(const Codes& codes, Layout layout, uint8_t* out, const Parallel&) {
  return cuda::prepack(codes, layout, out, Launch(0).call());
}
Status unprepack(const Codes& tiles, void* out, const Parallel&) {
  return cuda::unprepack(tiles, out, Launch(0).call());
}
Status truncate(const Codes& codes, int bits, void* out, const Parallel&) {
  return cuda::truncate(codes, bits, out, Launch(0).call());
}
Status truncate_scales(const void* scale, DType dtype, int64_t count, int drop, void* out, const Parallel&) {
  const Launch launch(0, device::Op::kTruncate);
  LOWBIT_RETURN_IF_ERROR(cuda::truncate_scales(scale, dtype, count, drop, out, launch.call()));
  return launch.wait("truncate");
}
Status truncate_zeros(const ElementFormat& f, const void* zero, DType dtype, int64_t count, int drop, float* out,
                      const Parallel&) {
  return cuda::truncate_zeros(f, zero, dtype, count, drop, out, Launch(0).call());
}
Status quantize(const QuantizeArgs& args, const Parallel&) {
  return cuda::quantize(args, Launch(cuda::quantize_workspace(args), device::Op::kQuantize).call());
}
Status dequantize(const DequantizeArgs& args, const Parallel&) {
  const device::Op op = args.ids != nullptr ? device::Op::kEmbedding : device::Op::kDequantize;
  return cuda::dequantize(args, Launch(0, op).call());
}
Status stochastic_round(const StochasticRoundArgs& args, const Parallel&) {
  return cuda::stochastic_round(args, Launch(0, device::Op::kStochasticRound).call());
}
Status stochastic_round_update(const WeightUpdateArgs& args, const Parallel&) {
  const Launch launch(cuda::stochastic_round_update_workspace(args), device::Op::kUpdate);
  return cuda::stochastic_round_update(args, launch.call());
}
Status hadamard(const HadamardArgs& args, const Parallel&) {
  Launch launch(cuda::hadamard_workspace(args));
  return cuda::hadamard(args, launch.call());
}
Status bitplane_gemm(const GemmArgs& args, const Parallel&) { return cuda::bitplane_gemm(args, Launch(0).call()); }
Status dequant_gemm(const GemmArgs& args, const Parallel&) { return cuda::dequant_gemm(args, Launch(0).call()); }
Status dequant_gemm_input_grad(const GemmArgs& args, const Parallel&) {
  return cuda::dequant_gemm_input_grad(args, Launch(0).call());
}
Status scaled_gemm(const GemmArgs& args, const Parallel&) { return cuda::scaled_gemm(args, Launch(0).call()); }

cpu::Kernels make_table() {
  cpu::Kernels k{};
  k.isa = "cuda";
  k.pack = pack;
  k.unpack = unpack;
  k.pack_order = pack_order;
  k.unpack_order = unpack_order;
  k.prepack = prepack;
  k.unprepack = unprepack;
  k.truncate = truncate;
  k.truncate_scales = truncate_scales;
  k.truncate_zeros = truncate_zeros;
  k.quantize = quantize;
  k.dequantize = dequantize;
  k.stochastic_round = stochastic_round;
  k.stochastic_round_update = stochastic_round_update;
  k.hadamard = hadamard;
  k.bitplane_gemm = bitplane_gemm;
  k.dequant_gemm = dequant_gemm;
  k.dequant_gemm_input_grad = dequant_gemm_input_grad;
  k.scaled_gemm = scaled_gemm;
  return k;
}

}  // namespace

Scope::Scope() = default;
Scope::~Scope() {
  device::hide_all();
  seed_now() = Tensor();
  if (entered_) guard().reset();
}
void Scope::enter(const Tensor& t) {
  if (!t.defined()) return;
  if (!entered_ && device::holds(t)) {
    guard().emplace(t);
    entered_ = true;
  }
  visible(t);
}

const Tensor& visible(const Tensor& t) {
  const auto [p, bytes] = extent(t);
  device::show(p, bytes, true);
  return t;
}
Tensor on_host(const Tensor& t) { return device::on_host(t); }
void raise_earlier_findings() { check(device::Findings::of(device::index()).take()); }
bool takes_seed(const Tensor& seed) {
  seed_now() = visible(torch::stable::contiguous(seed));
  return true;
}
// Of several devices the one that the call's first tensor is on.
bool is_here(const Tensor& t) { return device::holds(t) && t.get_device() == device::tensor_index(); }
const char* device_name() { return device::kName; }

Tensor empty_strided(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides, int32_t dtype) {
  AtenTensorHandle handle = nullptr;
  if (aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(), dtype, device::type(),
                               device::index(), &handle) != 0) {
    throw std::bad_alloc();
  }
  const Tensor t(handle);
  const auto [p, bytes] = extent(t);
  device::show(p, bytes, false);
  return t;
}

const cpu::Kernels& kernels() {
  static const cpu::Kernels table = make_table();
  return table;
}

Status run(cpu::Family family, const GemmArgs& args) {
  const Parallel none{};
  switch (family) {
    case cpu::Family::kBitplaneGemm: return bitplane_gemm(args, none);
    case cpu::Family::kDequantGemm: return dequant_gemm(args, none);
    default: return scaled_gemm(args, none);
  }
}
Status dequant_gemm_input_grad(const GemmArgs& args) { return dequant_gemm_input_grad(args, Parallel{}); }

namespace {
Status one_by_one() {
  return unsupported("grouped_gemm: experts must come at once on CUDA, got them one by one; see kExpertsAtOnce");
}
cuda::GroupedRows rows_of(const ExpertSteps& steps, const Tensor& offs) {
  return {static_cast<const int32_t*>(offs.data_ptr()),
          static_cast<int32_t>(offs.numel()),
          steps.codes,
          steps.scale,
          steps.second,
          steps.zero,
          steps.bias};
}
}  // namespace

Status grouped(cpu::Family, const GemmArgs*, int64_t) { return one_by_one(); }
Status grouped_input_grad(const GemmArgs*, int64_t) { return one_by_one(); }
Status grouped_at_once(const GemmArgs& args, const ExpertSteps& steps, const Tensor& offs) {
  return cuda::grouped_gemm(args, rows_of(steps, offs), Launch(0).call());
}
Status grouped_input_grad_at_once(const GemmArgs& args, const ExpertSteps& steps, const Tensor& offs) {
  return cuda::grouped_gemm_input_grad(args, rows_of(steps, offs), Launch(0).call());
}

Status quantize_rows(const char* op, const Spec& spec, const Matrix& x, const BlockValues& scale,
                     const BlockValues& zero, QuantizedRows* out) {
  struct Tensors {
    Tensor codes, scale, scale2, zero;
    BlockValues second;
  };
  auto hold = std::make_shared<Tensors>();
  QuantizeArgs q;
  q.x = x;
  q.rows = x.rows, q.cols = x.cols;
  q.scaling.op = op;
  q.scaling.spec = spec;
  q.scaling.spec.layout = q.layout = Layout::kPlain;
  q.scaling.asymmetric = spec.element->is_int() && spec.element->rule == kUnsigned && !scale;
  q.scale = scale, q.zero = zero;
  hold->codes = empty({x.rows, x.cols}, ScalarType::Byte);
  q.codes = hold->codes.data_ptr();
  const int64_t rows = Block::count(x.rows, spec.block.rows), cols = Block::count(x.cols, spec.block.cols);
  if (!scale) {
    LOWBIT_RETURN_IF_ERROR(check_scaling(q.scaling));
    const auto store = [](const ElementFormat* f, DType type, int64_t r, int64_t c, Tensor* t, BlockStore* to) {
      if (f == nullptr) {
        *t = empty({r, c}, scalar_type(type));
      } else if (canonical(*f) == Canonical::kPlanes) {
        *t = empty({f->bits, r, canonical_row(Canonical::kPlanes, c)}, ScalarType::Int);
      } else {
        *t = empty({r, canonical_row(canonical(*f), c)}, ScalarType::Byte);
      }
      *to = {t->data_ptr(), type, f, r, c};
    };
    Scaling& to = q.scaling;
    store(spec.scale, DType::kF32, rows, cols, &hold->scale, &to.scale);
    if (spec.scale_has_scale) {
      store(nullptr, DType::kF32, Block::count(rows, spec.scale_block.rows), Block::count(cols, spec.scale_block.cols),
            &hold->scale2, &to.scale2);
    }
    if (to.asymmetric) store(nullptr, DType::kU8, rows, cols, &hold->zero, &to.zero);
  }
  Launch launch(cuda::quantize_workspace(q));
  LOWBIT_RETURN_IF_ERROR(cuda::quantize(q, launch.call()));
  QMatrix& m = out->matrix;
  m.cols = x.cols;
  m.codes.data = q.codes;
  m.codes.format = spec.element;
  m.codes.layout = Layout::kPlain;
  m.codes.rows = x.rows;
  m.codes.cols = m.codes.row_stride = x.cols;
  m.scale = scale ? scale : scale_view(q.scaling, &hold->second);
  m.zero = zero;
  if (q.scaling.asymmetric) m.zero = zero_view(q.scaling);
  if (!scale) m.scale.block = m.zero.block = {rows == 1 ? 0 : spec.block.rows, cols == 1 ? 0 : spec.block.cols};
  out->hold = hold;
  return Status();
}

}  // namespace lowbit::bind::backend

// The entries of the table that have a kernel here, "quantize dequantize ...", for lowbit.capabilities().
extern "C" LOWBIT_EXPORT void lowbit_cuda_served(char* text, int64_t size) {
  using namespace lowbit;
  const cpu::Kernels& k = bind::backend::kernels();
  std::string names;
  const auto add = [&](const char* name, auto entry) {
    if (entry != nullptr) names += (names.empty() ? "" : " ") + std::string(name);
  };
  add("pack", k.pack);
  add("unpack", k.unpack);
  add("prepack", k.prepack);
  add("unprepack", k.unprepack);
  add("truncate", k.truncate);
  add("quantize", k.quantize);
  add("dequantize", k.dequantize);
  add("stochastic_round", k.stochastic_round);
  add("stochastic_round_update", k.stochastic_round_update);
  add("hadamard", k.hadamard);
  add("bitplane_gemm", k.bitplane_gemm);
  add("dequant_gemm", k.dequant_gemm);
  add("dequant_gemm_input_grad", k.dequant_gemm_input_grad);
  add("scaled_gemm", k.scaled_gemm);
  if (size > 0) text[names.copy(text, static_cast<size_t>(size - 1))] = 0;
}

// Waits for every device that kernels looked at values on. Whether one found something, with the sentence.
extern "C" LOWBIT_EXPORT int lowbit_cuda_check_values(char* text, int64_t size) {
  using namespace lowbit;
  int before = 0, count = 0;
  if (cudaGetDevice(&before) != cudaSuccess || cudaGetDeviceCount(&count) != cudaSuccess) return 0;
  Status status;
  for (int d = 0; d < count && status.ok(); ++d) {
    bind::device::Findings& findings = bind::device::Findings::of(d);
    if (!findings.is_used()) continue;
    cudaSetDevice(d);
    status = cuda::check_error("lowbit", "cudaDeviceSynchronize", cudaDeviceSynchronize());
    if (status.ok()) status = findings.take();
  }
  cudaSetDevice(before);
  return cuda::answer(status, text, size);
}
