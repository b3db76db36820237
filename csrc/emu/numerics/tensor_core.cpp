#include "emu/numerics/tensor_core.h"

namespace emu {
namespace {

// Where two of them measured the same thing, they agree. Exponents of zero are those of the model published with Xie et
// al., mmasim 2.1.1 on PyPI, which its authors hold against the hardware bit by bit.
constexpr const char* kA100 =
    "Fasi, Higham, Mikaitis, Pranesh 2021 (doi:10.7717/peerj-cs.330); Khattak, Mikaitis arXiv:2512.07004 (A100: 8 "
    "terms, "
    "one extra bit; RTX 3060 alike, arXiv:2510.15884); Xie et al. arXiv:2511.10909 (Ampere: 24 fraction bits, k in "
    "halves)";
constexpr const char* kAda =
    "Khattak, Mikaitis arXiv:2512.07004 (L40S, Ada); Xie et al. arXiv:2511.10909 (Ada Lovelace: 24)";
constexpr const char* kAdaF8 =
    "SageAttention2 arXiv:2411.10958 (FP22 accumulator, 13 bits); Khattak, Mikaitis arXiv:2512.07004 (16 terms, -10 "
    "extra "
    "bits); Xie et al. arXiv:2511.10909 (13 fraction bits, e8m13 results)";
constexpr const char* kHopper =
    "Khattak, Mikaitis arXiv:2512.07004 (H100: 16 terms, 8 of tf32, two extra bits); Xie et al. arXiv:2511.10909 (25)";
constexpr const char* kHopperF8 =
    "ptxas 13.0 for sm_90: mma.sync of FP8 is two HMMA and an FADD (the 14-bit sum of DeepSeek-V3, arXiv:2412.19437, "
    "is of "
    "wgmma); the HMMA as above";
constexpr const char* kBlackwell =
    "Xie et al. arXiv:2511.10909 (RTX Blackwell: 25 fraction bits, whole k); Khattak, Mikaitis arXiv:2512.07004 (RTX "
    "PRO "
    "6000 as B200)";
constexpr const char* kBlackwellF4 =
    "Xie et al. arXiv:2511.10909 (mxf4, mxf4nvf4: sums of 16 exact, then 35 fraction bits)";

}  // namespace

const TensorCore kTensorCores[] = {
    {80, MmaOperand::kF16, 8, 24, 23, 1, -132, -20, false, true, kA100},
    {80, MmaOperand::kBF16, 8, 24, 23, 1, -132, -20, false, true, kA100},
    {80, MmaOperand::kTF32, 4, 24, 23, 1, -132, -20, false, true, kA100},
    {89, MmaOperand::kF16, 8, 24, 23, 1, -132, -20, false, true, kAda},
    {89, MmaOperand::kBF16, 8, 24, 23, 1, -132, -20, false, true, kAda},
    {89, MmaOperand::kTF32, 4, 24, 23, 1, -132, -20, false, true, kAda},
    {89, MmaOperand::kF8, 16, 13, 13, 1, -132, -20, false, true, kAdaF8},
    {90, MmaOperand::kF16, 16, 25, 23, 1, -133, -21, false, true, kHopper},
    {90, MmaOperand::kBF16, 16, 25, 23, 1, -133, -21, false, true, kHopper},
    {90, MmaOperand::kTF32, 8, 25, 23, 1, -133, -21, false, true, kHopper},
    {90, MmaOperand::kF8, 16, 25, 23, 1, -133, -21, true, false, kHopperF8},
    {120, MmaOperand::kF16, 16, 25, 23, 1, -133, -21, false, true, kBlackwell},
    {120, MmaOperand::kBF16, 16, 25, 23, 1, -133, -21, false, true, kBlackwell},
    {120, MmaOperand::kTF32, 8, 25, 23, 1, -133, -21, false, true, kBlackwell},
    {120, MmaOperand::kF8, 32, 25, 23, 1, -133, -21, false, true, kBlackwell},
    {120, MmaOperand::kF8F6F4, 32, 25, 23, 1, -133, -21, false, true, kBlackwell},
    {120, MmaOperand::kMxF8F6F4, 32, 25, 23, 1, -133, -21, false, true, kBlackwell},
    {120, MmaOperand::kMxF4, 64, 35, 23, 16, -139, -21, false, true, kBlackwellF4},
};
const int kTensorCoreCount = sizeof kTensorCores / sizeof kTensorCores[0];

const TensorCore& tensor_core(int arch, MmaOperand operand) {
  const TensorCore* best = nullptr;
  const TensorCore* first = nullptr;
  for (const TensorCore& row : kTensorCores) {
    if (row.operand != operand) continue;
    if (first == nullptr) first = &row;
    if (row.arch <= arch) best = &row;
  }
  return best != nullptr ? *best : *first;  // an operand that the device lacks is refused when decoded
}

const char* name_of(MmaOperand operand) {
  switch (operand) {
    case MmaOperand::kF16: return "f16";
    case MmaOperand::kBF16: return "bf16";
    case MmaOperand::kTF32: return "tf32";
    case MmaOperand::kF8: return "f8";
    case MmaOperand::kF8F6F4: return "f8f6f4";
    case MmaOperand::kMxF8F6F4: return "mxf8f6f4";
    case MmaOperand::kMxF4: return "mxf4";
  }
  return "?";
}

}  // namespace emu
