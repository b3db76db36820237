#include "ref/hadamard_matrix.h"

#include <map>
#include <memory>
#include <mutex>
#include <string_view>

#include "ref/galois.h"

namespace lowbit {
namespace {

// Turyn-type sequences X, Y, Z of length n and W of length n - 1, t = 3n - 1, as published: a hexadecimal digit a
// position, whose bits from the top are X, Y, Z, W (1 is -1); the last digit has the three bits X, Y, Z. They give
// a = Z W X, b = Z -W Y, c = Z W -X, d = Z -W -Y.
// Sources: Best, Djokovic, Kharaghani, Ramp 2013 (n <= 32); Kharaghani, Tayfeh-Rezaie 2005 (n = 36).
constexpr std::string_view kTurynType[] = {
    "06e5c4d1",                              // t = 23
    "0001f4a961",                            // 29
    "0000778e52de5561",                      // 47
    "000038e2739c7a0b6951",                  // 59
    "00000f702c71a9ad565961",                // 65
    "000000f70b106f9d427a25e9a96951",        // 89
    "060989975b685d8fc80750b21c0212eceb26",  // 107
};

// Quadruples a, b, c, d as they stand. t = 39: Holzmann, Kharaghani, Tayfeh-Rezaie 2008. t = 43: Williamson 1944, who
// had order 172 long before order 92 fell to a computer (Baumert, Golomb, Hall 1962): his sequences keep their values
// when the index is multiplied by 6, an automorphism of order 3, which leaves few enough to search by hand.
struct Quadruple {
  std::string_view sequence[4];
};
constexpr Quadruple kQuadruples[] = {
    {{"+++--+-+-----+--++----++--+-----+-+--++", "+++--++-+---+-+--+----+--+-+---+-++--++",
      "++++---+--++----+-+--+-+----++--+---+++", "+---++-+-+-----+++-++-+++-----+-+-++---"}},
    {{"++---++++-+--+--++--------++--+--+-++++---+", "+++-+-++--+-+-++++-+----+-++++-+-+--++-+-++",
      "++-++++++----+-+--++-++-++--+-+----++++++-+", "+---++--++++-+-+++-++--++-+++-+-++++--++---"}},
};

using Sequence = std::vector<int8_t>;

// The four sequences of length t, or nothing.
bool sequences(int t, Sequence (*out)[4]) {
  for (const std::string_view digits : kTurynType) {
    const int n = static_cast<int>(digits.size());
    if (3 * n - 1 != t) continue;
    Sequence& a = (*out)[0];
    a.resize(t);
    Sequence y(n);
    for (int i = 0; i < n; ++i) {
      const char digit = digits[i];
      int bits = digit <= '9' ? digit - '0' : digit - 'a' + 10;
      if (i == n - 1) bits <<= 1;
      const auto value = [bits](int bit) { return static_cast<int8_t>((bits >> bit) & 1 ? -1 : 1); };
      a[i] = value(1);
      if (i < n - 1) a[n + i] = value(0);
      a[2 * n - 1 + i] = value(3);
      y[i] = value(2);
    }
    for (int s = 1; s < 4; ++s) (*out)[s] = a;
    for (int i = n; i < 2 * n - 1; ++i) (*out)[1][i] = (*out)[3][i] = static_cast<int8_t>(-a[i]);
    for (int i = 0; i < n; ++i) {
      const int k = 2 * n - 1 + i;
      (*out)[1][k] = y[i];
      (*out)[2][k] = static_cast<int8_t>(-a[k]);
      (*out)[3][k] = static_cast<int8_t>(-y[i]);
    }
    return true;
  }
  for (const Quadruple& q : kQuadruples) {
    if (static_cast<int>(q.sequence[0].size()) != t) continue;
    for (int s = 0; s < 4; ++s) {
      (*out)[s].clear();
      for (const char c : q.sequence[s]) (*out)[s].push_back(c == '+' ? 1 : -1);
    }
    return true;
  }
  return false;
}

enum class Construction { kNone, kOne, kPaley1, kPaley2, kGoethalsSeidel };

Construction construction(int m) {
  if (m == 1) return Construction::kOne;
  if (m % 4 || m > kMaxHadamardBase) return Construction::kNone;
  if (prime_power(m - 1).p) return Construction::kPaley1;
  if (m % 8 == 4 && prime_power(m / 2 - 1).p) return Construction::kPaley2;
  Sequence s[4];
  return sequences(m / 4, &s) ? Construction::kGoethalsSeidel : Construction::kNone;
}

int goethals_seidel(const Sequence (&s)[4], int i, int j) {
  // the block's sequence, its sign, and whether the circulant is transposed before R
  struct Block {
    int8_t sequence, sign;
    bool transposed;
  };
  constexpr Block kBlocks[4][4] = {{{0, 1, false}, {1, 1, false}, {2, 1, false}, {3, 1, false}},
                                   {{1, -1, false}, {0, 1, false}, {3, -1, true}, {2, 1, true}},
                                   {{2, -1, false}, {3, 1, true}, {0, 1, false}, {1, -1, true}},
                                   {{3, -1, false}, {2, -1, true}, {1, 1, true}, {0, 1, false}}};
  const int t = static_cast<int>(s[0].size());
  const Block b = kBlocks[i / t][j / t];
  const int r = i % t, c = j % t;
  const int index = b.sequence == 0 ? c - r + t : b.transposed ? r + c + 1 : 2 * t - 1 - r - c;
  return b.sign * s[b.sequence][index % t];
}

template <class Entry>
HadamardMatrix build(int m, const Entry& entry) {
  HadamardMatrix h;
  h.order = m;
  h.signs.assign(m * m / 4, 0);
  h.transposed_signs.assign(m * m / 4, 0);
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < m; ++j) {
      if (entry(i, j) > 0) continue;
      h.signs[(i * m + j) / 4] |= static_cast<uint8_t>(1 << (j % 4));
      h.transposed_signs[(j * m + i) / 4] |= static_cast<uint8_t>(1 << (i % 4));
    }
  }
  return h;
}

HadamardMatrix build(int m) {
  switch (construction(m)) {
    case Construction::kPaley1: {
      const Field field(prime_power(m - 1));
      return build(m, [&](int i, int j) { return paley1(field, i, j); });
    }
    case Construction::kPaley2: {
      const Field field(prime_power(m / 2 - 1));
      return build(m, [&](int i, int j) {
        const int c = bordered(field, i / 2, j / 2, 1, 0);
        const bool both_odd = i % 2 && j % 2;
        return c ? (both_odd ? -c : c) : (i % 2 || j % 2 ? -1 : 1);
      });
    }
    case Construction::kGoethalsSeidel: {
      Sequence s[4];
      sequences(m / 4, &s);
      return build(m, [&](int i, int j) { return goethals_seidel(s, i, j); });
    }
    default: return HadamardMatrix();
  }
}

}  // namespace

HadamardSize hadamard_size(int64_t n) {
  if (n < 1 || n > kMaxHadamard) return {};
  int base = static_cast<int>(n), log2 = 0;
  for (; base % 2 == 0; base /= 2) ++log2;
  for (; log2 >= 0; base *= 2, --log2) {
    if (construction(base) != Construction::kNone) return {base, log2};
  }
  return {};
}

const HadamardMatrix& hadamard_matrix(int order) {
  static std::mutex mutex;
  static std::map<int, std::unique_ptr<HadamardMatrix>> built;
  const std::lock_guard<std::mutex> lock(mutex);
  std::unique_ptr<HadamardMatrix>& h = built[order];
  if (!h) h = std::make_unique<HadamardMatrix>(build(order));
  return *h;
}

}  // namespace lowbit
