// Sizes of floating-point numbers as integers, which are ordered like them, and powers of two. For host and
// device.
#pragma once
#include "rules/rule.hpp"

namespace loosestep {

#if defined(__CUDACC__)
HD unsigned long long bits(double x) { return static_cast<unsigned long long>(__double_as_longlong(x)); }
HD double from_bits(unsigned long long x) { return __longlong_as_double(static_cast<long long>(x)); }
#else
HD unsigned long long bits(double x) {
  unsigned long long same;
  __builtin_memcpy(&same, &x, sizeof same);
  return same;
}
HD double from_bits(unsigned long long x) {
  double same;
  __builtin_memcpy(&same, &x, sizeof same);
  return same;
}
#endif

template <class T> struct Layout;
template <> struct Layout<float> {
  using Integer = int;
  using Word = unsigned;
  static constexpr int fraction = 23, bias = 127, least = -100;  // least: exponent of a block
  static constexpr float most = 0x1.fffffep+127f;
};
template <> struct Layout<double> {
  using Integer = long long;
  using Word = unsigned long long;
  static constexpr int fraction = 52, bias = 1023, least = -1000;
  static constexpr double most = 0x1.fffffffffffffp+1023;
};

template <class T> using Integer = typename Layout<T>::Integer;
template <class T> using Word = typename Layout<T>::Word;

template <class T>
inline constexpr Integer<T> infinite_size = Integer<T>(2 * Layout<T>::bias + 1) << Layout<T>::fraction;

template <class T> HD Integer<T> size_of(T x) { return Integer<T>(bits(x) & (~Word<T>(0) >> 1)); }

// Return 2^e, for exponents of normal numbers.
template <class T> HD T power_of_two(int e) {
  return from_bits(Word<T>(e + Layout<T>::bias) << Layout<T>::fraction);
}

// Return the least e with |x| < 2^e, of a size; for subnormal numbers a larger one.
template <class T> HD int exponent_above(Integer<T> size) {
  return int(size >> Layout<T>::fraction) - (Layout<T>::bias - 1);
}

// Return x, or the largest number of its sign where it is beyond.
template <class T> HD T limited(T x) {
  return x > Layout<T>::most ? Layout<T>::most : x < -Layout<T>::most ? -Layout<T>::most : x;
}

// Return a number as another type, or the largest of its sign.
template <class T> HD T limited_to(double x) {
  constexpr double most = Layout<T>::most;
  return T(x > most ? most : x < -most ? -most : x);
}
HD float narrowed(float x) { return x; }
HD float narrowed(double x) { return limited_to<float>(x); }

}  // namespace loosestep
