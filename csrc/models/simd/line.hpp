// Lines of sixteen elements, and the two ways to access them in memory that other threads write. Compiled
// once for each instruction set, hence the anonymous namespace. Lanes are summed in the same order for every
// width of a vector, so all instruction sets give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "models/simd/row_layout.hpp"
#include "rules/rule.hpp"

namespace loosestep::simd {
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

// Return e x - l y, the negative gradient of one side.
HD Line descent(float e, const Line& x, float l, const Line& y) {
  Line out;
  for (int i = 0; i < parts; ++i) out.part[i] = e * x.part[i] - l * y.part[i];
  return out;
}

HD Line stepped(const Line& x, float rate, const Line& gradient) {
  Line out;
  for (int i = 0; i < parts; ++i) out.part[i] = x.part[i] + rate * gradient.part[i];
  return out;
}

// Add lane i + n/2 to lane i until one is left.
HD float lane_sum(const Floats4& x) { return (x[0] + x[2]) + (x[1] + x[3]); }
HD float lane_sum(const Floats8& x) {
  return lane_sum(
      Floats4(__builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 4, 5, 6, 7)));
}
HD float lane_sum(const Floats16& x) {
  return lane_sum(Floats8(__builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7) +
                          __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15)));
}
HD float sum(Line x) {
  for (int half = parts / 2; half; half /= 2)
    for (int i = 0; i < half; ++i) x.part[i] += x.part[i + half];
  return lane_sum(x.part[0]);
}

// One xorshift32 generator (Marsaglia 2003) per lane; the halves of a number round the two elements of a
// word.
struct XorShift {
  Bits state;

  HD explicit XorShift(const std::uint32_t (&saved)[line]) { __builtin_memcpy(&state, saved, sizeof state); }
  HD void save(std::uint32_t (&into)[line]) const { __builtin_memcpy(into, &state, sizeof state); }
  HD const Bits& next() {
    for (Words& x : state.part) x ^= x << 13, x ^= x >> 17, x ^= x << 5;
    return state;
  }
};

// Words of two bfloat16 hold a lane of two lines: the first line in the low half.
HD Line low(const Bits& words) {
  Line out;
  for (int i = 0; i < parts; ++i) out.part[i] = reinterpret_cast<Floats>(words.part[i] << 16);
  return out;
}

HD Line high(const Bits& words) {
  Line out;
  for (int i = 0; i < parts; ++i) out.part[i] = reinterpret_cast<Floats>(words.part[i] & 0xFFFF0000u);
  return out;
}

// Round at random so that the mean is exact: add a number in [0, 2^16) to the bits that are cut off.
HD Bits round_pair(const Line* two, const Bits& random) {
  Bits out;
  for (int i = 0; i < parts; ++i) {
    const Words first = reinterpret_cast<Words>(two[0].part[i]) + (random.part[i] & 0xFFFFu);
    const Words second = reinterpret_cast<Words>(two[1].part[i]) + (random.part[i] >> 16);
    out.part[i] = (first >> 16) | (second & 0xFFFF0000u);
  }
  return out;
}

// The storage of rows: `lines_per_access` lines are loaded and stored together. bfloat16 rows are words of
// two elements.
struct Float32Rows {
  using Element = float;
  static constexpr int lines_per_access = 1;
};
struct Bfloat16Rows {
  using Element = std::uint32_t;
  static constexpr int lines_per_access = 2;
};

// Access by whole vectors. What another thread writes may be seen in part: undefined in the language's memory
// model, defined in the processor's, where these are plain loads and stores. Volatile, so that each is done
// once.
template <class Element, class Vector> struct Memory {
  typedef Element Shared __attribute__((vector_size(4 * width), aligned(4), may_alias));

  HD static void load(const Element* at, Vector* out) {
    for (int i = 0; i < parts; ++i) out[i] = *reinterpret_cast<const volatile Shared*>(at + i * width);
  }
  HD static void store(Element* at, const Vector* from) {
    for (int i = 0; i < parts; ++i) *reinterpret_cast<volatile Shared*>(at + i * width) = from[i];
  }
};

template <class Layout> struct Vectors;

template <> struct Vectors<Float32Rows> : Float32Rows {
  HD static void load(const float* at, Line* out) { Memory<float, Floats>::load(at, out->part); }
  HD static void store(float* at, const Line*, const Line* after) {
    Memory<float, Floats>::store(at, after->part);
  }
};

template <> struct Vectors<Bfloat16Rows> : Bfloat16Rows {
  HD static void load(const std::uint32_t* at, Line* out) {
    Bits words;
    Memory<std::uint32_t, Words>::load(at, words.part);
    out[0] = low(words), out[1] = high(words);
  }
  HD static void store(std::uint32_t* at, const Line* after, const Bits& random) {
    Memory<std::uint32_t, Words>::store(at, round_pair(after, random).part);
  }
};

template <class T> HD T load_relaxed(const T* at) {
  T x;
  __atomic_load(at, &x, __ATOMIC_RELAXED);
  return x;
}

template <class T> HD void store_relaxed(T* at, T x) { __atomic_store(at, &x, __ATOMIC_RELAXED); }

// Add the change to the current value.
HD void add_exactly(float* at, float before, float after) {
  const float change = after - before;
  while (!__atomic_compare_exchange(at, &before, &after, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
    after = before + change;
}

template <Adds adds> HD void store_scalar(float* at, float before, float after) {
  if constexpr (adds == Adds::exact)
    add_exactly(at, before, after);
  else
    store_relaxed(at, after);
}

// Atomic access to single elements, or words of two: visible to sanitizers, and the reference for the
// vectors.
template <class Layout, Adds adds> struct Atomics;

template <Adds adds> struct Atomics<Float32Rows, adds> : Float32Rows {
  HD static void load(const float* at, Line* out) {
    for (int i = 0; i < line; ++i) out->part[i / width][i % width] = load_relaxed(at + i);
  }
  HD static void store(float* at, const Line* before, const Line* after) {
    for (int i = 0; i < line; ++i)
      store_scalar<adds>(at + i, before->part[i / width][i % width], after->part[i / width][i % width]);
  }
};

template <Adds adds> struct Atomics<Bfloat16Rows, adds> : Bfloat16Rows {
  HD static void load(const std::uint32_t* at, Line* out) {
    Bits words;
    for (int i = 0; i < line; ++i) words.part[i / width][i % width] = load_relaxed(at + i);
    out[0] = low(words), out[1] = high(words);
  }
  HD static void store(std::uint32_t* at, const Line* after, const Bits& random) {
    const Bits words = round_pair(after, random);
    for (int i = 0; i < line; ++i) store_relaxed(at + i, std::uint32_t(words.part[i / width][i % width]));
  }
};

}  // namespace
}  // namespace loosestep::simd
