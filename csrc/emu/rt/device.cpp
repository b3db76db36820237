#include "emu/rt/device.h"

#include <algorithm>

#include "emu/config.h"

namespace emu {
namespace {

// Limits of an SM: arch_traits.h of CCCL (shared memory, threads, blocks), and cuda_occupancy.h of CUDA 13.0 for the
// blocks and for how shared memory and registers are dealt out. Blocks are 24 on 12.x, not the 32 of 10.0.
// The board, by row:
//   80   NVIDIA A100 Tensor Core GPU Architecture (2020), table of A100 (SMs, boost clock, L2); A100 80GB data sheet
//        (2,039 GB/s) and its memory clock as drivers report it
//   86   NVIDIA Ampere GA102 GPU Architecture (2021), appendix A: 82 SMs, 1695 MHz, 19.5 Gb/s, 6144 KB
//   89   NVIDIA Ada GPU Architecture (2023), appendix A: 128 SMs, 2520 MHz, 21 Gb/s, 384 bits, 73728 KB
//   90   NVIDIA H100 Tensor Core GPU Architecture (2023), table 3: 132 SMs, 50 MB. The clock is that of its tensor
//        figures, 1830 MHz (the rest may boost to 1980); memory clock as drivers report it, 3.35 TB/s in the data sheet
//   120  NVIDIA RTX Blackwell GPU Architecture (2025), appendix A: 170 SMs, 2407 MHz, 28 Gb/s, 512 bits, 96 MB
//   121  no whitepaper. DGX Spark: 128 GB, 273 GB/s, 6144 CUDA cores (data sheet); 48 SMs, 2418 MHz (the clock that it
//        holds; 3003 at most) and 8533 MT/s on 256 bits are what devices report; L2 of 24 MB: measurements alone
constexpr Device kDevices[] = {
    // arch, board, SMs, MHz, memory MHz, bus bits, GB/s, L2 KB, memory MB, shared/SM, opt-in, threads/SM, blocks/SM
    {80, "A100-SXM4-80GB", 108, 1410, 1593, 5120, 2039.0, 40960, 81920, 167936, 166912, 2048, 32},
    {86, "GeForce RTX 3090", 82, 1695, 9751, 384, 936.2, 6144, 24576, 102400, 101376, 1536, 16},
    {89, "GeForce RTX 4090", 128, 2520, 10501, 384, 1008.1, 73728, 24576, 102400, 101376, 1536, 24},
    {90, "H100-SXM5-80GB", 132, 1830, 2619, 5120, 3352.3, 51200, 81920, 233472, 232448, 2048, 32},
    {120, "GeForce RTX 5090", 170, 2407, 14001, 512, 1792.1, 98304, 32768, 102400, 101376, 1536, 24},
    {121, "DGX Spark GB10", 48, 2418, 4266, 256, 273.0, 24576, 131072, 102400, 101376, 1536, 24},
};

constexpr uint32_t kWarp = 32;
constexpr uint32_t kRegisterUnit = 256;  // of a warp
constexpr uint64_t kSharedUnit = 128;
constexpr uint32_t kPartitions = 4;  // of an SM, each with a quarter of its registers

template <class T>
T round_up(T value, T unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

const Device* find_device(int arch) {
  for (const Device& d : kDevices) {
    if (d.arch == arch) return &d;
  }
  return nullptr;
}

const Device& device() { return *find_device(arch_number(config().arch)); }

int multiprocessors(const Device& d) { return config().multiprocessors != 0 ? config().multiprocessors : d.sms; }

int resident_blocks(const Device& d, uint32_t threads, uint64_t shared_bytes, uint32_t registers) {
  if (threads == 0 || threads > static_cast<uint32_t>(kThreadsPerBlock)) return 0;
  const uint32_t warps = (threads + kWarp - 1) / kWarp;
  int64_t blocks = std::min<int64_t>(d.blocks_per_sm, d.threads_per_sm / kWarp / warps);
  const uint64_t shared = round_up(shared_bytes + kSharedReserved, kSharedUnit);
  if (shared_bytes > static_cast<uint64_t>(d.shared_opt_in)) return 0;
  blocks = std::min<int64_t>(blocks, d.shared_per_sm / shared);
  if (registers != 0) {
    const uint32_t of_warp = round_up(registers * kWarp, kRegisterUnit);
    // A block is refused as though its warps filled all partitions alike; those that run are dealt one by one.
    if (of_warp * round_up(warps, kPartitions) > static_cast<uint32_t>(kRegistersPerSm)) return 0;
    blocks = std::min<int64_t>(blocks, kRegistersPerSm / kPartitions / of_warp * kPartitions / warps);
  }
  return static_cast<int>(blocks);
}

int resident_blocks(const Device& d, const Code& code, uint32_t threads, uint64_t dynamic_shared) {
  return resident_blocks(d, threads, std::max(code.shared_bytes, code.dynamic_offset + dynamic_shared), code.registers);
}

}  // namespace emu
