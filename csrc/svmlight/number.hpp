// Decimal numbers as text: the nearest double, whatever the spelling, and no nan or infinity.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>
#include <system_error>

namespace loosestep::svmlight {

// All of these read from `at` on, and some byte that belongs to no number must follow: they look for no end.

inline bool is_digit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

// Appends digits to `number`, which holds 19 of them; more wrap around, and the caller counts.
inline const char* add_digits(const char* at, std::uint64_t& number) {
  for (; is_digit(*at); ++at) number = number * 10 + static_cast<std::uint64_t>(*at - '0');
  return at;
}

// What follows an 'e', added to `exponent`; nullptr: no digit does.
inline const char* add_exponent(const char* at, std::int64_t& exponent) {
  constexpr std::int64_t most = 1'000'000'000;  // beyond any text's length, far from overflow
  const bool negative = *at == '-';
  if (negative || *at == '+') ++at;
  const char* const first = at;
  std::int64_t found = 0;
  for (; is_digit(*at); ++at) found = std::min(found * 10 + (*at - '0'), most);
  exponent += negative ? -found : found;
  return at == first ? nullptr : at;
}

// Whether a number outside double's range lies near zero: where its first digit other than 0 stands.
inline bool is_tiny(std::string_view text) {
  const std::size_t end = std::min(text.find_first_of("eE"), text.size());
  const std::size_t point = std::min(text.find('.'), end), first = text.find_first_of("123456789");
  std::int64_t power = static_cast<std::int64_t>(point) - static_cast<std::int64_t>(first);
  if (end < text.size()) add_exponent(text.data() + end + 1, power);
  return power < 0;
}

// The careful way. False: too large for a double.
inline bool read_rounded(std::string_view text, double& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) {
    value = 0;
    return is_tiny(text);
  }
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(value);
}

// Up to 2^53 and 10^22 are exact as doubles, so one multiplication or division rounds once, correctly.
inline bool read_exact(std::uint64_t digits, std::int64_t exponent, double& value) {
  static constexpr double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                      1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  if (digits > std::uint64_t(1) << 53 || exponent < -22 || exponent > 22) return false;
  const double whole = static_cast<double>(digits);
  value = exponent < 0 ? whole / powers[-exponent] : whole * powers[exponent];
  return true;
}

// Where the number ends; nullptr: there is none, or no finite one.
inline const char* read_number(const char* at, double& value) {
  const bool negative = *at == '-';
  if (negative || *at == '+') ++at;
  const char* const first = at;
  std::uint64_t digits = 0;
  std::int64_t exponent = 0;
  at = add_digits(at, digits);
  std::int64_t count = at - first;
  if (*at == '.') {
    const char* const fraction = ++at;
    at = add_digits(at, digits);
    exponent = fraction - at, count -= exponent;
  }
  if (count == 0) return nullptr;
  if (*at == 'e' || *at == 'E') at = add_exponent(at + 1, exponent);
  if (at == nullptr) return nullptr;
  if (count > 19 || !read_exact(digits, exponent, value))
    if (!read_rounded({first, static_cast<std::size_t>(at - first)}, value)) return nullptr;
  if (negative) value = -value;
  return at;
}

// The nearest float of the nearest double, as numpy.float32(float(text)) gives it. False: beyond the range.
inline bool narrow(double value, float& into) {
  constexpr double largest = std::numeric_limits<float>::max(), limit = 0x1.ffffffp127;  // halfway to 2^128
  if (!(std::abs(value) < limit)) return false;
  into = static_cast<float>(std::clamp(value, -largest, largest));
  return true;
}

inline bool narrow(double value, double& into) {
  into = value;
  return true;
}

}  // namespace loosestep::svmlight
