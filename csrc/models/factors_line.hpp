// Sixteen elements of a row, and the two ways to reach them in memory that others write meanwhile.
// Compiled once for each instruction set, hence the anonymous namespace. Lanes are summed in one order
// whatever the width of a vector, so every set gives the same bits.
#pragma once

#include "models/factors.hpp"
#include "rules/rule.hpp"

namespace loosestep::factors {
namespace {

#if defined(__AVX512F__)
constexpr int width = 16;
#elif defined(__AVX__)
constexpr int width = 8;
#else
constexpr int width = 4;
#endif
constexpr int parts = line / width;

typedef float Floats4 __attribute__((vector_size(16)));
typedef float Floats8 __attribute__((vector_size(32)));
typedef float Floats16 __attribute__((vector_size(64)));
typedef float Floats __attribute__((vector_size(4 * width)));
typedef std::uint32_t Words __attribute__((vector_size(4 * width)));
typedef std::uint16_t Halves __attribute__((vector_size(2 * width)));

struct Line {
  Floats part[parts];
};
struct Bits {
  Words part[parts];
};

HD Line product(const Line& x, const Line& y) {
  Line out;
  for (int i = 0; i < parts; ++i) out.part[i] = x.part[i] * y.part[i];
  return out;
}

HD void add(Line& x, const Line& y) {
  for (int i = 0; i < parts; ++i) x.part[i] += y.part[i];
}

// e x - l y: one side's gradient, downhill.
HD Line downhill(float e, const Line& x, float l, const Line& y) {
  Line out;
  for (int i = 0; i < parts; ++i) out.part[i] = e * x.part[i] - l * y.part[i];
  return out;
}

HD Line moved(const Line& x, float rate, const Line& gradient) {
  Line out;
  for (int i = 0; i < parts; ++i) out.part[i] = x.part[i] + rate * gradient.part[i];
  return out;
}

// Lane i and lane i + n/2, again and again.
HD float folded(const Floats4& x) { return (x[0] + x[2]) + (x[1] + x[3]); }
HD float folded(const Floats8& x) {
  return folded(
      Floats4(__builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 4, 5, 6, 7)));
}
HD float folded(const Floats16& x) {
  return folded(Floats8(__builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7) +
                        __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15)));
}
HD float sum(Line x) {
  for (int half = parts / 2; half; half /= 2)
    for (int i = 0; i < half; ++i) x.part[i] += x.part[i + half];
  return folded(x.part[0]);
}

// One xorshift32 (Marsaglia 2003) a lane: the low half of a number rounds an element of p, the high half one
// of q.
struct Dice {
  Bits state;

  HD explicit Dice(const Visitor& visitor) { __builtin_memcpy(&state, visitor.random, sizeof state); }
  HD void keep(Visitor& visitor) const { __builtin_memcpy(visitor.random, &state, sizeof state); }
  HD Bits roll() {
    for (Words& x : state.part) x ^= x << 13, x ^= x >> 17, x ^= x << 5;
    return state;
  }
};

HD Bits low(const Bits& x) {
  Bits out;
  for (int i = 0; i < parts; ++i) out.part[i] = x.part[i] & 0xFFFFu;
  return out;
}

HD Bits high(const Bits& x) {
  Bits out;
  for (int i = 0; i < parts; ++i) out.part[i] = x.part[i] >> 16;
  return out;
}

// Up with the probability that makes the mean right: a number in [0, 2^16) is added to what is cut off.
HD std::uint16_t rounded(float x, std::uint32_t random) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return static_cast<std::uint16_t>((bits + random) >> 16);
}

HD float widened(std::uint16_t half) {
  const std::uint32_t bits = std::uint32_t(half) << 16;
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

// Whole vectors. What another thread writes meanwhile may be seen in part: lies outside the language's memory
// model, and inside the machine's, for which these are loads and stores; volatile, so they are done once.
template <class T> struct Vectors;

template <> struct Vectors<float> {
  using Element = float;
  static constexpr bool rounds = false;
  typedef float Memory __attribute__((vector_size(4 * width), aligned(4), may_alias));

  HD static Line load(const float* at) {
    Line out;
    for (int i = 0; i < parts; ++i) out.part[i] = *reinterpret_cast<const volatile Memory*>(at + i * width);
    return out;
  }
  HD static void store(float* at, const Line&, const Line& after, const Bits&) {
    for (int i = 0; i < parts; ++i) *reinterpret_cast<volatile Memory*>(at + i * width) = after.part[i];
  }
};

template <> struct Vectors<std::uint16_t> {
  using Element = std::uint16_t;
  static constexpr bool rounds = true;
  typedef std::uint16_t Memory __attribute__((vector_size(2 * width), aligned(2), may_alias));

  HD static Line load(const std::uint16_t* at) {
    Line out;
    for (int i = 0; i < parts; ++i) {
      const Halves halves = *reinterpret_cast<const volatile Memory*>(at + i * width);
      out.part[i] = reinterpret_cast<Floats>(__builtin_convertvector(halves, Words) << 16);
    }
    return out;
  }
  HD static void store(std::uint16_t* at, const Line&, const Line& after, const Bits& random) {
    for (int i = 0; i < parts; ++i) {
      const Words bits = reinterpret_cast<Words>(after.part[i]) + random.part[i];
      *reinterpret_cast<volatile Memory*>(at + i * width) = __builtin_convertvector(bits >> 16, Halves);
    }
  }
};

template <class T> HD T relaxed(const T* at) {
  T x;
  __atomic_load(at, &x, __ATOMIC_RELAXED);
  return x;
}

template <class T> HD void relax(T* at, T x) { __atomic_store(at, &x, __ATOMIC_RELAXED); }

// The change is added to whatever is there now.
HD void add_exactly(float* at, float before, float after) {
  const float change = after - before;
  while (!__atomic_compare_exchange(at, &before, &after, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
    after = before + change;
}

template <Adds adds> HD void put(float* at, float before, float after) {
  if constexpr (adds == Adds::exact)
    add_exactly(at, before, after);
  else
    relax(at, after);
}

// Elements, atomically: what sanitizers see, and the oracle of the vectors.
template <class T, Adds adds> struct Atomics;

template <Adds adds> struct Atomics<float, adds> {
  using Element = float;
  static constexpr bool rounds = false;

  HD static Line load(const float* at) {
    Line out;
    for (int i = 0; i < line; ++i) out.part[i / width][i % width] = relaxed(at + i);
    return out;
  }
  HD static void store(float* at, const Line& before, const Line& after, const Bits&) {
    for (int i = 0; i < line; ++i)
      put<adds>(at + i, before.part[i / width][i % width], after.part[i / width][i % width]);
  }
};

template <Adds adds> struct Atomics<std::uint16_t, adds> {
  using Element = std::uint16_t;
  static constexpr bool rounds = true;

  HD static Line load(const std::uint16_t* at) {
    Line out;
    for (int i = 0; i < line; ++i) out.part[i / width][i % width] = widened(relaxed(at + i));
    return out;
  }
  HD static void store(std::uint16_t* at, const Line&, const Line& after, const Bits& random) {
    for (int i = 0; i < line; ++i)
      relax(at + i, rounded(after.part[i / width][i % width], random.part[i / width][i % width]));
  }
};

}  // namespace
}  // namespace loosestep::factors
