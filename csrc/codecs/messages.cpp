#include "codecs/messages.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "cpu/threads.hpp"
#include "rules/minifloat.hpp"

namespace loosestep::codecs {
namespace {

std::atomic<const Table*> chosen{nullptr};

bool is_large(size_t bytes) { return bytes >= large_from / 2; }

// Call f(begin, end) for parts of n values that begin with a multiple of `grain`.
template <class F> void in_parts(size_t n, size_t grain, size_t bytes, F&& f) {
  parallel(n, grain, bytes, [&f](size_t begin, size_t end) { f(begin, end); });
}

// Call f for parts; return whether it returned true for all.
template <class F> bool all_parts(size_t n, size_t grain, size_t bytes, F&& f) {
  std::atomic<bool> fine{true};
  in_parts(n, grain, bytes, [&](size_t begin, size_t end) {
    if (!f(begin, end)) fine.store(false, std::memory_order_relaxed);
  });
  return fine;
}

std::uint64_t largest(const Values& x) {
  std::atomic<std::uint64_t> most{0};
  in_parts(x.n, block, x.bytes(), [&](size_t begin, size_t end) {
    const std::uint64_t found = table().largest[x.dtype](x.data, begin, end);
    std::uint64_t before = most.load(std::memory_order_relaxed);
    while (found > before && !most.compare_exchange_weak(before, found, std::memory_order_relaxed)) {
    }
  });
  return most;
}

double number_of(std::uint64_t size, Dtype dtype) {
  return dtype == float32 ? double(from_bits(static_cast<unsigned>(size)))
                          : from_bits(static_cast<Word<double>>(size));
}

size_t blocks_of(size_t n) { return (n + block - 1) / block; }

}  // namespace

const Table& table() {
  const Table* const now = chosen.load(std::memory_order_relaxed);
  return now ? *now : *available().begin[0];
}

void use_instruction_set(const std::string& name) {
  for (size_t i = 0; i < available().count; ++i)
    if (available().begin[i]->name == name) {
      chosen = available().begin[i];
      return;
    }
  throw std::invalid_argument("this processor has no instruction set '" + name + "'");
}

bool finite(const Values& x) { return std::isfinite(number_of(largest(x), x.dtype)); }

double unit_of(const Values& x) {
  const double most = number_of(largest(x), x.dtype);
  if (!std::isfinite(most)) return 0;
  return most == 0 ? 1 : std::ldexp(1.0, std::clamp(-std::ilogb(most), -1000, 1000));
}

bool encode(Format format, const Values& x, unsigned char* wire) {
  const auto function = table().encode[format][x.dtype];
  return all_parts(x.n, block, 2 * x.bytes(), [&, large = is_large(x.bytes())](size_t begin, size_t end) {
    return function(x.data, wire, {begin, end, x.n, large});
  });
}

void decode(Format format, const unsigned char* wire, const Room& out) {
  const auto function = table().decode[format][out.dtype];
  in_parts(out.n, block, 2 * out.bytes(), [&](size_t begin, size_t end) {
    function(wire, out.data, {begin, end, out.n, is_large(out.bytes())});
  });
}

bool sign_encode(const Values& x, unsigned char* wire) {
  std::vector<double> sums(blocks_of(x.n));
  const auto function = table().sign_encode[x.dtype];
  const bool fine = all_parts(x.n, block, 2 * x.bytes(), [&](size_t begin, size_t end) {
    return function(x.data, wire + 4, sums.data(), {begin, end, x.n});
  });
  const double sum = table().sum_of_sums(sums.data(), sums.size());
  const float scale = x.n ? narrowed(sum / static_cast<double>(x.n)) : 0;
  std::memcpy(wire, &scale, 4);
  return fine;
}

void sign_decode(const unsigned char* wire, const Room& out) {
  float scale;
  std::memcpy(&scale, wire, 4);
  const auto function = table().sign_decode[out.dtype];
  in_parts(out.n, block, 2 * out.bytes(), [&](size_t begin, size_t end) {
    function(wire + 4, scale, out.data, {begin, end, out.n, is_large(out.bytes())});
  });
}

bool dither_encode(const Values& x, const Dither& how, unsigned char* wire) {
  const auto function = table().dither_encode[x.dtype];
  return all_parts((x.n + how.bucket - 1) / how.bucket, 1, 4 * x.bytes(),
                   [&](size_t begin, size_t end) { return function(x.data, wire, how, {begin, end, x.n}); });
}

void dither_decode(const unsigned char* wire, const Dither& how, const Room& out) {
  const auto function = table().dither_decode[out.dtype];
  in_parts((out.n + how.bucket - 1) / how.bucket, 1, 2 * out.bytes(), [&](size_t begin, size_t end) {
    function(wire, out.data, how, {begin, end, out.n, is_large(out.bytes())});
  });
}

namespace {

// Return the mean, and how many bins a unit of value is wide.
BinRule rule_of(const Values& x, double unit, int bits) {
  std::vector<double> sums(blocks_of(x.n)), squares(blocks_of(x.n));
  const auto function = table().moments[x.dtype];
  in_parts(x.n, block, x.bytes(), [&](size_t begin, size_t end) {
    function(x.data, unit, sums.data(), squares.data(), {begin, end, x.n});
  });
  const auto n = static_cast<double>(std::max<size_t>(x.n, 1));
  const double mean = table().sum_of_sums(sums.data(), sums.size()) / n;
  const double variance = table().sum_of_sums(squares.data(), squares.size()) / n - mean * mean;
  const double width = 6 * std::sqrt(std::max(variance, 0.0)) / std::ldexp(1.0, bits);
  return {unit, mean, width > 0 ? 1 / width : 0, bits};
}

}  // namespace

bool bins_encode(const Values& x, int bits, unsigned char* wire) {
  const double unit = unit_of(x);
  if (unit == 0) return false;
  const BinRule rule = rule_of(x, unit, bits);
  const size_t bins = size_t(1) << bits, blocks = blocks_of(x.n);
  std::vector<double> sums(blocks * bins);
  std::vector<std::uint64_t> counts(blocks * bins);
  const auto function = table().bins_encode[x.dtype];
  in_parts(x.n, block, 4 * x.bytes(), [&](size_t begin, size_t end) {
    function(x.data, rule, wire + 4 * bins, sums.data(), counts.data(), {begin, end, x.n});
  });
  for (size_t b = 0; b < bins; ++b) {
    double sum = 0, count = 0;
    for (size_t at = 0; at < blocks; ++at) sum += sums[at * bins + b], count += double(counts[at * bins + b]);
    const float mean = narrowed(count > 0 ? (rule.shift + sum / count) / unit : 0);
    std::memcpy(wire + 4 * b, &mean, 4);
  }
  return true;
}

void bins_decode(const unsigned char* wire, int bits, const Room& out) {
  float means[256];
  const size_t bins = size_t(1) << bits;
  std::memcpy(means, wire, 4 * bins);
  const auto function = table().bins_decode[out.dtype];
  in_parts(out.n, block, 2 * out.bytes(), [&](size_t begin, size_t end) {
    function(wire + 4 * bins, means, bits, out.data, {begin, end, out.n});
  });
}

namespace {

template <class Made, class T, class How>
void narrow_each(const T* x, size_t n, unsigned char* to, How&& how) {
  for (size_t i = 0; i < n; ++i) {
    const auto made = static_cast<Made>(how(x[i]));
    std::memcpy(to + i * sizeof made, &made, sizeof made);
  }
}

template <class T> void narrow_to(const T* x, size_t n, int bits, unsigned char* to) {
  if (bits == 16)
    narrow_each<std::uint16_t>(x, n, to, [](T each) { return Bfloat16::code(narrowed(each)); });
  else if (bits == 32)
    narrow_each<float>(x, n, to, [](T each) { return narrowed(each); });
  else
    narrow_each<double>(x, n, to, [](T each) { return each; });
}

template <class Made, class T, class How>
void widen_each(const unsigned char* from, T* out, size_t n, How&& how) {
  for (size_t i = 0; i < n; ++i) {
    Made made;
    std::memcpy(&made, from + i * sizeof made, sizeof made);
    out[i] = how(made);
  }
}

template <class T> void widen_from(const unsigned char* from, int bits, T* out, size_t n) {
  if (bits == 16)
    widen_each<std::uint16_t>(from, out, n, [](unsigned code) { return T(Bfloat16::value(code)); });
  else if (bits == 32)
    widen_each<float>(from, out, n, [](float single) { return T(single); });
  else
    widen_each<double>(from, out, n, [](double whole) { return limited_to<T>(whole); });
}

}  // namespace

void narrow(const Values& x, int bits, unsigned char* to) {
  if (x.dtype == float32)
    narrow_to(static_cast<const float*>(x.data), x.n, bits, to);
  else
    narrow_to(static_cast<const double*>(x.data), x.n, bits, to);
}

void widen(const unsigned char* from, int bits, const Room& out) {
  if (out.dtype == float32)
    widen_from(from, bits, static_cast<float*>(out.data), out.n);
  else
    widen_from(from, bits, static_cast<double*>(out.data), out.n);
}

}  // namespace loosestep::codecs
