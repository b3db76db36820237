// How a kernel gets threads: a function and a context, given by the caller. The bindings pass PyTorch's own pool, tests
// a plain loop. Work is cut into `count` tiles by shape alone, never by the number of threads, so results do not depend
// on it.
#pragma once

#include <cstdint>
#include <type_traits>

namespace lowbit {

struct Parallel {
  // Calls body(begin, end, context) over a partition of [0, count), possibly from several threads, each range at least
  // `grain` long but the last. Bodies must not throw.
  using Body = void (*)(int64_t begin, int64_t end, void* context);
  using For = void (*)(int64_t count, int64_t grain, Body body, void* context);
  For run;

  template <class F>
  void operator()(int64_t count, int64_t grain, F&& f) const {
    if (count <= 0) return;
    using Fn = std::remove_reference_t<F>;
    run(
        count, grain, [](int64_t begin, int64_t end, void* context) { (*static_cast<Fn*>(context))(begin, end); },
        const_cast<void*>(static_cast<const void*>(&f)));
  }
};

// The plain loop.
inline Parallel serial() {
  struct Loop {  // not a lambda: nvcc 13.0 cannot convert one to a function pointer here
    static void run(int64_t count, int64_t, Parallel::Body body, void* context) { body(0, count, context); }
  };
  return {&Loop::run};
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

}  // namespace lowbit
