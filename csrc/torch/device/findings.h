// What kernels find in values (cuda/launch.h), raised without a wait for the kernels.
//
// Whether x is finite, or every code one of its format, is known when the kernel is over. A call that waited for it
// would empty the GPU's queue in every step of an engine, and could not be captured in a graph. So each device has a
// word for every op that looks at values, in host memory that kernels reach: a kernel adds to the word of its op when
// it finds something, which costs nothing where it does not, and the host reads the words where that costs one load:
//   - at the start of each call of one of these ops: it raises what earlier calls found, once, before it does anything
//   - in lowbit.check_values(), which waits for the devices first
//   - after pack and truncate, which are called when a weight is made and wait for their own kernels, but in a capture
// What is found in a replay of a captured graph arrives in the same way: the words live as long as the process.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>

#include "cuda/launch.h"

namespace lowbit::bind::device {

enum class Op : uint8_t { kPack, kTruncate, kQuantize, kDequantize, kEmbedding, kStochasticRound, kUpdate, kCount };

class Findings {
 public:
  // Of the current device, number `index`.
  static Findings& of(int index) {
    static std::array<Findings, kMaxDevices> all;
    return all[static_cast<size_t>(index) % kMaxDevices];
  }

  // The word that kernels of `op` add to.
  Status word(Op op, int32_t** out) {
    if (!is_used()) LOWBIT_RETURN_IF_ERROR(allocate());
    *out = words_.load(std::memory_order_acquire) + static_cast<int>(op);
    return Status();
  }

  // What was found since the last call, as the sentence the CPU has for it, less the place.
  Status take() {
    int32_t* const words = words_.load(std::memory_order_acquire);
    if (words == nullptr) return Status();
    for (int i = 0; i < static_cast<int>(Op::kCount); ++i) {
      if (__atomic_load_n(words + i, __ATOMIC_RELAXED) == 0) continue;
      const int32_t bits = __atomic_exchange_n(words + i, 0, __ATOMIC_ACQ_REL);
      if (bits != 0) return sentence(static_cast<Op>(i), bits);
    }
    return Status();
  }

  bool is_used() const { return words_.load(std::memory_order_acquire) != nullptr; }

 private:
  static constexpr size_t kMaxDevices = 64;

  Status allocate() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_used()) return Status();
    // an allocation is no part of a graph that this thread may be capturing
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    LOWBIT_RETURN_IF_ERROR(
        cuda::check_error("lowbit", "cudaThreadExchangeStreamCaptureMode", cudaThreadExchangeStreamCaptureMode(&mode)));
    void* memory = nullptr;
    const cudaError_t error = cudaHostAlloc(&memory, kBytes, cudaHostAllocMapped | cudaHostAllocPortable);
    cudaThreadExchangeStreamCaptureMode(&mode);
    LOWBIT_RETURN_IF_ERROR(cuda::check_error("lowbit", "cudaHostAlloc", error));
    auto* words = static_cast<int32_t*>(memory);
    for (int i = 0; i < static_cast<int>(Op::kCount); ++i) words[i] = 0;
    words_.store(words, std::memory_order_release);
    return Status();
  }

  static Status sentence(Op op, int32_t bits) {
    struct Names {
      const char *op, *argument;
    };
    constexpr Names kNames[] = {{"pack", "codes"},
                                {"truncate", "scale"},
                                {"quantize", "x"},
                                {"dequantize", "w"},
                                {"embedding", "w"},
                                {"stochastic_round", "x"},
                                {"stochastic_round_update_", "dw"}};
    static_assert(sizeof(kNames) / sizeof(kNames[0]) == static_cast<size_t>(Op::kCount));
    const Names& n = kNames[static_cast<int>(op)];
    constexpr const char* kWhen = " (found on the device by this or an earlier call)";
    if (bits & cuda::kBadId) {
      return invalid(n.op, ": ids must be rows of w, got one outside", kWhen, "; compare them with w's rows");
    }
    if (bits & cuda::kNonFinite) {
      return invalid(n.op, ": ", n.argument, " must be finite, got a NaN or an infinity", kWhen,
                     "; replace it with torch.nan_to_num");
    }
    if (bits & cuda::kScaleOverflow) {
      return invalid(n.op, ": ", n.argument, " must be small enough for its scales, got one that overflows", kWhen,
                     "; use float32 scales");
    }
    if (bits & cuda::kBadCode) {
      return invalid(n.op, ": ", n.argument, " must hold codes of its format, got another", kWhen,
                     "; quantize it anew");
    }
    if (bits & cuda::kBadTable) {
      return invalid(n.op, ": table must be finite and ascending, got another", kWhen, "; sort it");
    }
    return invalid(n.op, ": scale must be finite, got a NaN or an infinity", kWhen, "; quantize the matrix anew");
  }

  static constexpr size_t kBytes = 4 * static_cast<size_t>(Op::kCount);
  std::atomic<int32_t*> words_{nullptr};  // at the same address for the device; never freed: graphs may hold it
  std::mutex mutex_;
};

}  // namespace lowbit::bind::device
