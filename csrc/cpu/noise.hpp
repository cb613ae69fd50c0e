// Rules with noise: a chunk of the random stream is computed on the stack as the last buffer of the rule.
// Compiled once per instruction set.
#pragma once
#include "cpu/each.hpp"

namespace loosestep {
namespace {

constexpr std::size_t fours = 64, chunk = 4 * fours;  // numbers computed at a time

// The random words and then the numbers of each counter: column k holds the k-th of every four. Compilers
// vectorize the three loops, but not one loop of all three.
struct Columns {
  alignas(64) unsigned words[4][fours];
  alignas(64) float numbers[4][fours];
};

HD void draw(Columns& of, const Noise& noise, unsigned long long first) {
  INDEPENDENT
  for (std::size_t i = 0; i < fours; ++i) {
    const Words made = words(noise, first + i);
    of.words[0][i] = made.a, of.words[1][i] = made.b, of.words[2][i] = made.c, of.words[3][i] = made.d;
  }
}

HD void to_normals(Columns& of, std::size_t k) {
  INDEPENDENT
  for (std::size_t i = 0; i < fours; ++i) {
    const Pair made = two_normals(of.words[k][i], of.words[k + 1][i]);
    of.numbers[k][i] = made.a, of.numbers[k + 1][i] = made.b;
  }
}

// Compute a chunk of the stream, beginning at number 4 * first.
template <class T> HD void fill(T* out, const Noise& noise, unsigned long long first) {
  Columns of;
  draw(of, noise, first);
  to_normals(of, 0), to_normals(of, 2);
  for (std::size_t i = 0; i < fours; ++i)
    for (std::size_t k = 0; k < 4; ++k) out[4 * i + k] = T(of.numbers[k][i]);
}

template <class R, class T, int... I>
HD void noisy_chunk(const R& rule, void* const* buffers, std::size_t at, std::size_t n, T* numbers,
                    Indices<I...>) {
  void* const here[] = {static_cast<T*>(buffers[I]) + at..., numbers};
  apply<R, T>(typename Arguments<R>::types{}, rule, here, 0, n, Count<sizeof...(I) + 1>{});
}

// Element i gets number `start` + i.
template <class R, class T>
void elementwise_noisy(const double* scalars, void* const* buffers, const Noise& noise,
                       unsigned long long start, std::size_t begin, std::size_t end) {
  const R rule = made<R, T>(scalars);
  alignas(64) T numbers[chunk];
  for (std::size_t at = begin, n; at < end; at += n) {
    const unsigned long long number = start + at;
    const std::size_t skip = number % 4;
    n = end - at < chunk - skip ? end - at : chunk - skip;
    fill(numbers, noise, number / 4);
    noisy_chunk<R, T>(rule, buffers, at, n, numbers + skip, Count<Arguments<R>::count - 1>{});
  }
}

}  // namespace
}  // namespace loosestep
