// What the processor can do at most: operations a second of the instructions that products are made of, bytes a second
// of reading and copying memory. Loaded by bench/ceilings.py; each loop asks the processor first whether it can run.
//
// An operation is one multiplication or one addition: a dot product of 64 int8 pairs counts 128. Loops hold enough
// independent sums to cover the latency of the instruction, and hide operands from the compiler before each use, or it
// would compute equal products once.
#include <cpuid.h>
#include <immintrin.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kSums = 12;  // latency 4 to 5 at up to two a cycle
constexpr int64_t kTurns = 1 << 16;

#define LOWBIT_HIDE(v) asm volatile("" : "+v"(v))

// One loop: `kSums` sums of type VECTOR, each turn STEP on every one of them.
#define LOWBIT_PEAK_LOOP(name, features, VECTOR, FIRST, STEP)    \
  __attribute__((target(features))) void name(int64_t turns) {   \
    VECTOR sums[kSums], a = FIRST, b = FIRST;                    \
    LOWBIT_HIDE(a);                                              \
    for (auto& sum : sums) {                                     \
      sum = FIRST;                                               \
      LOWBIT_HIDE(sum);                                          \
    }                                                            \
    for (int64_t t = 0; t < turns; ++t) {                        \
      _Pragma("GCC unroll 12") for (int i = 0; i < kSums; ++i) { \
        LOWBIT_HIDE(b);                                          \
        sums[i] = STEP;                                          \
      }                                                          \
    }                                                            \
    for (auto& sum : sums) LOWBIT_HIDE(sum);                     \
  }

LOWBIT_PEAK_LOOP(int8_dot, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(), _mm512_dpbusd_epi32(sums[i], a, b))
LOWBIT_PEAK_LOOP(bf16_dot, "avx512f,avx512bf16", __m512, _mm512_setzero_ps(),
                 _mm512_dpbf16_ps(sums[i], (__m512bh)a, (__m512bh)b))
LOWBIT_PEAK_LOOP(fp32_fma, "avx512f", __m512, _mm512_setzero_ps(), _mm512_fmadd_ps(a, b, sums[i]))
LOWBIT_PEAK_LOOP(fp32_fma_avx2, "avx2,fma", __m256, _mm256_setzero_ps(), _mm256_fmadd_ps(a, b, sums[i]))
LOWBIT_PEAK_LOOP(popcount, "avx512f,avx512vpopcntdq", __m512i, _mm512_setzero_si512(),
                 _mm512_add_epi64(sums[i], _mm512_popcnt_epi64(_mm512_and_si512(a, b))))
// exact: a pair of products of 7-bit magnitudes and int8 stays within int16
LOWBIT_PEAK_LOOP(int8_dot_avx2, "avx2", __m256i, _mm256_setzero_si256(),
                 _mm256_add_epi32(sums[i], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), a)))

#undef LOWBIT_PEAK_LOOP

#if defined(__x86_64__)
struct alignas(64) TileShapes {  // the operand of ldtilecfg
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
// not a local: GCC 12 believes that _tile_loadconfig reads 8 bytes, and drops the stores of the rest
const TileShapes kShapes;

// Four sums and four operands; the state of the tiles is each thread's own.
__attribute__((target("amx-tile,amx-int8"))) void amx_int8(int64_t turns) {
  _tile_loadconfig(&kShapes);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t t = 0; t < turns; ++t) {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
  _tile_release();
}

__attribute__((target("amx-tile,amx-bf16"))) void amx_bf16(int64_t turns) {
  _tile_loadconfig(&kShapes);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t t = 0; t < turns; ++t) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
}
#endif

// Leaf 7 of CPUID, register edx: 22 amx-bf16, 24 amx-tile, 25 amx-int8. Linux gives the tiles to those who ask.
bool has_amx(int bit) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 24 & 1) || !(d >> bit & 1)) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

struct Peak {
  const char* name;
  int64_t operations;  // of one turn
  bool (*runs)();
  void (*loop)(int64_t turns);
};

const Peak kPeaks[] = {
    {"int8_dot", kSums * 128, [] { return __builtin_cpu_supports("avx512vnni") != 0; }, int8_dot},
    {"bf16_dot", kSums * 64, [] { return __builtin_cpu_supports("avx512bf16") != 0; }, bf16_dot},
    {"fp32_fma", kSums * 32, [] { return __builtin_cpu_supports("avx512f") != 0; }, fp32_fma},
    {"popcount", kSums * 1024, [] { return __builtin_cpu_supports("avx512vpopcntdq") != 0; }, popcount},
    {"int8_dot_avx2", kSums * 64, [] { return __builtin_cpu_supports("avx2") != 0; }, int8_dot_avx2},
    {"fp32_fma_avx2", kSums * 16,
     [] { return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0; }, fp32_fma_avx2},
#if defined(__x86_64__)
    {"amx_int8", 4 * 2 * 16 * 16 * 64, [] { return has_amx(25); }, amx_int8},
    {"amx_bf16", 4 * 2 * 16 * 16 * 32, [] { return has_amx(22); }, amx_bf16},
#endif
};

// Seconds from the moment that all threads are there to the moment that the last one is done with work(thread).
template <class F>
double on_threads(int threads, F&& work) {
  if (threads == 1) {
    const auto start = Clock::now();
    work(0);
    return std::chrono::duration<double>(Clock::now() - start).count();
  }
  std::atomic<int> ready{0};
  std::atomic<bool> go{false};
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i)
    others.emplace_back([&, i] {
      ++ready;
      while (!go) {
      }
      work(i);
    });
  while (ready < threads - 1) {
  }
  const auto start = Clock::now();
  go = true;
  work(0);
  for (auto& thread : others) thread.join();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Four streams, each prefetched: one alone does not fill the queue of misses where pages are small.
__attribute__((target("avx2"))) void read_part(const char* part, int64_t bytes) {
  constexpr int kStreams = 4, kAhead = 1024;
  const int64_t stream = bytes / kStreams / 64 * 64;
  __m256i sums[kStreams] = {};
  for (int64_t at = 0; at < stream; at += 64) {
    _Pragma("GCC unroll 4") for (int s = 0; s < kStreams; ++s) {
      const char* p = part + s * stream + at;
      _mm_prefetch(p + kAhead, _MM_HINT_T0);
      const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
      const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32));
      sums[s] = _mm256_add_epi64(sums[s], _mm256_xor_si256(low, high));
    }
  }
  for (auto& sum : sums) LOWBIT_HIDE(sum);
}

}  // namespace

#define LOWBIT_EXPORT extern "C" __attribute__((visibility("default")))

// The name of a peak; null past the last one.
LOWBIT_EXPORT const char* lowbit_peak_name(int index) {
  return index >= 0 && index < static_cast<int>(std::size(kPeaks)) ? kPeaks[index].name : nullptr;
}

// Operations a second of all threads together, the best of tries over `seconds`; 0: this processor lacks the
// instruction.
LOWBIT_EXPORT double lowbit_peak(int index, int threads, double seconds) {
  const Peak& peak = kPeaks[index];
  if (!peak.runs()) return 0;
  double best = 0;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  do {
    const double took = on_threads(threads, [&](int) { peak.loop(kTurns); });
    const double rate = static_cast<double>(peak.operations) * kTurns * threads / took;
    if (rate > best) best = rate;
  } while (Clock::now() < end);
  return best;
}

// Written memory, on huge pages where `huge` and the kernel grants them, else on small ones; null: none is left.
LOWBIT_EXPORT void* lowbit_buffer(int64_t bytes, int huge) {
  void* buffer = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (buffer == MAP_FAILED) return nullptr;
  madvise(buffer, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  memset(buffer, 1, bytes);
  return buffer;
}

LOWBIT_EXPORT void lowbit_free_buffer(void* buffer, int64_t bytes) { munmap(buffer, bytes); }

// Seconds that the threads take to read the buffer once.
LOWBIT_EXPORT double lowbit_read(const void* buffer, int64_t bytes, int threads) {
  const int64_t part = bytes / threads / 4096 * 4096;
  return on_threads(threads, [&](int i) { read_part(static_cast<const char*>(buffer) + i * part, part); });
}

// Seconds that the threads take to copy the first half of the buffer to the second.
LOWBIT_EXPORT double lowbit_copy(void* buffer, int64_t bytes, int threads) {
  const int64_t half = bytes / 2, part = half / threads / 4096 * 4096;
  char* const at = static_cast<char*>(buffer);
  return on_threads(threads, [&](int i) { memcpy(at + half + i * part, at + i * part, part); });
}
