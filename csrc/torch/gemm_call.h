// What the bindings of the GEMM families share: the tensors of one call, checked and gathered into a GemmArgs.
#pragma once

#include <string_view>
#include <vector>

#include "cpu/gemm.h"
#include "torch/args.h"
#include "torch/backend.h"

namespace lowbit::bind {

// Filled in this order: activations, weight, bias, output; then run. Owns what the views point to.
class GemmCall {
 public:
  // `experts`: the weight, its values and the bias have a leading dimension of experts.
  GemmCall(const char* op, std::string_view w_format, bool experts = false);
  GemmCall(const GemmCall&) = delete;

  // Activations as floats [..., K] (complex weights: [..., 2 K]).
  void dense_x(const Tensor& x);
  // Activations as codes: [..., M, K], or planes [..., bits, M, ceil(K / 32)]. Their values: the shapes of
  // values_view(), with the leading dimensions of x. `k` is that of the weight.
  void coded_x(const QArgs& x, int64_t k);
  // Floats, quantized during run() in the format of `x`: with the scales given, else with those of each block.
  void quantize_x(const QArgs& x);

  // Gradients of the output [..., N] instead of activations; the result then has the shape [..., K].
  void gradient(const Tensor& dy, int64_t k);

  void weight(const QArgs& w, int64_t code_cols = -1);
  void bias(const OptTensor& bias);
  // Checks the sizes and allocates the result, or checks the one given.
  Tensor output(DType dtype);
  void output_into(const Tensor& out, std::optional<ScalarType> asked);

  const Spec& w_spec() const { return w_spec_; }
  const Spec& x_spec() const { return x_.spec; }
  const std::vector<int64_t>& lead() const { return lead_; }  // sizes of x and out but the last
  int64_t expert_count() const { return w_.experts; }
  cpu::Family family() const;
  // The dtype of the result when none is asked for: that of x, or float32 for codes.
  DType default_dtype() const { return coded_ ? DType::kF32 : dense_dtype_; }

  void run(cpu::Family family);
  // The same for rows of x sorted by expert, expert e owning the rows up to ends[e].
  backend::ExpertSteps expert_steps() const;
  void run_grouped(cpu::Family family, const std::vector<int64_t>& ends, const Tensor& offs);
  // One GemmArgs an expert.
  struct Expert {
    GemmArgs args;
    QMatrix x;
    BlockValues x_second, w_second;
  };
  std::vector<GemmArgs> experts(const std::vector<int64_t>& ends, std::vector<Expert>* storage) const;

  GemmArgs args;

 private:
  int64_t width(int64_t k) const { return w_spec_.element->is_complex() ? 2 * k : k; }
  int64_t out_cols() const { return width(gradient_ ? args.k : args.n); }
  std::vector<int64_t> out_sizes() const;
  void rows(const char* name, const Tensor& x);
  void finish_x();

  const char* op_;
  bool experts_;
  Spec w_spec_;
  QView w_, x_;
  Hold w_hold_, x_hold_;
  Tensor dense_hold_, bias_hold_;
  DType dense_dtype_ = DType::kF32;
  bool coded_ = false;  // x came as codes
  bool gradient_ = false;
  bool dynamic_ = false;  // x comes as floats and is quantized on the way
  backend::QuantizedRows quantized_;
  std::vector<int64_t> lead_;  // sizes of x and out but the last
};

// The output dtype of a product of codes: float32 where none is asked for; int32 is the raw sum, refused where scales,
// a bias or float zero points are given and where K could overflow it.
DType codes_out_dtype(const char* op, std::optional<ScalarType> asked, const GemmArgs& args);

// The activations of gemm and grouped_gemm: floats, floats to quantize, or codes, by dtype and by whether `format` is
// given; `k` where x alone does not tell.
void gemm_x(GemmCall* call, const QArgs& x, const std::optional<std::string>& format, std::optional<int64_t> k);

}  // namespace lowbit::bind
