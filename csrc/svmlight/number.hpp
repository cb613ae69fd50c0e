// Parsing of decimal numbers to the nearest double; nan and infinity are refused.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>
#include <system_error>

namespace loosestep::svmlight {

// These functions read from `at`. A byte that belongs to no number must follow, since they check no end.

inline bool is_digit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

// Append digits to `number`, which holds 19 of them; more wrap around, and the caller counts.
inline const char* add_digits(const char* at, std::uint64_t& number) {
  for (; is_digit(*at); ++at) number = number * 10 + static_cast<std::uint64_t>(*at - '0');
  return at;
}

// Parse what follows an 'e' and add it to `exponent`; return nullptr where there is no digit.
inline const char* add_exponent(const char* at, std::int64_t& exponent) {
  constexpr std::int64_t most = 1'000'000'000;  // beyond the length of any text, far from an overflow
  const bool negative = *at == '-';
  if (negative || *at == '+') ++at;
  const char* const first = at;
  std::int64_t found = 0;
  for (; is_digit(*at); ++at) found = std::min(found * 10 + (*at - '0'), most);
  exponent += negative ? -found : found;
  return at == first ? nullptr : at;
}

// Return whether a number outside double's range is near zero, by the position of its first digit other than
// 0.
inline bool is_tiny(std::string_view text) {
  const std::size_t end = std::min(text.find_first_of("eE"), text.size());
  const std::size_t point = std::min(text.find('.'), end), first = text.find_first_of("123456789");
  std::int64_t power = static_cast<std::int64_t>(point) - static_cast<std::int64_t>(first);
  if (end < text.size()) add_exponent(text.data() + end + 1, power);
  return power < 0;
}

// Parse any number exactly; return false where it is too large for a double.
inline bool read_rounded(std::string_view text, double& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) {
    value = 0;
    return is_tiny(text);
  }
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(value);
}

// Integers up to 2^53 and powers up to 10^22 are exact doubles, so one multiplication or division rounds
// correctly.
inline bool read_exact(std::uint64_t digits, std::int64_t exponent, double& value) {
  static constexpr double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                      1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  if (digits > std::uint64_t(1) << 53 || exponent < -22 || exponent > 22) return false;
  const double whole = static_cast<double>(digits);
  value = exponent < 0 ? whole / powers[-exponent] : whole * powers[exponent];
  return true;
}

// Parse a number; return its end, or nullptr where there is no finite one.
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

// Round to float as numpy.float32(float(text)) does; return false where it is out of range.
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
