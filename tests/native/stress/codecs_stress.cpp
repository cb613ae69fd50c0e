// Encodes, decodes and adds with every format, at random lengths, in memory of just the bytes of a message,
// by every instruction set, and compares the words; tests/native/stress/sanitize.sh builds it under the
// sanitizers. Prints one line and returns 0, or says what was wrong.
#include <algorithm>
#include <cmath>
#include <memory>
#include <random>

#include "codecs/messages.hpp"
#include "cpu/instruction_sets.hpp"
#include "stress.hpp"

namespace loosestep {

LOOSESTEP_DECLARE(codecs::Table, codec_table)

namespace codecs {

// The tables of this program, of the loops of codecs alone.
Tables available() {
#if defined(LOOSESTEP_X86)
  static const Table* const all[] = {LOOSESTEP_ADDRESSES(codec_table)};
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                    __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  const std::size_t left_out = wide ? 0 : __builtin_cpu_supports("avx2") ? 1 : 2;
  return {all + left_out, 3 - left_out};
#else
  static const Table* const all[] = {LOOSESTEP_ADDRESSES(codec_table)};
  return {all, 1};
#endif
}

}  // namespace codecs
}  // namespace loosestep

using namespace loosestep;
using namespace loosestep::codecs;

namespace {

std::mt19937_64 random_words(1);

std::size_t below(std::size_t n) { return random_words() % n; }

using Bytes = std::vector<unsigned char>;

// Of many sizes, some of them 0, the largest and the least.
template <class T> std::vector<T> values(std::size_t n) {
  std::vector<T> made(n);
  const int spread = static_cast<int>(1 + below(60)), middle = static_cast<int>(below(200)) - 100;
  for (T& x : made) {
    const double size = double(random_words() >> 11) * 0x1p-53 - 0.5;
    x = T(std::ldexp(size, middle - static_cast<int>(below(static_cast<std::size_t>(spread)))));
    if (below(50) == 0) x = T(0);
    if (below(1000) == 0) x = std::numeric_limits<T>::max();
    if (below(1000) == 0) x = -std::numeric_limits<T>::denorm_min();
  }
  return made;
}

template <class T> struct Case {
  std::vector<T> x;
  std::vector<Bytes> found;  // of one instruction set, in order

  Values read() const { return {x.data(), x.size(), sizeof(T) == 4 ? float32 : float64}; }

  // Encode into just so many bytes, and decode.
  template <class Encode, class Decode> void both(std::size_t bytes, Encode&& encode, Decode&& decode) {
    Bytes wire(bytes);
    check(encode(wire.data()), "finite values are refused");
    std::vector<T> out(x.size(), T(7));
    decode(wire.data(), Room{out.data(), out.size(), read().dtype});
    for (const T each : out) check(std::isfinite(each), "what is decoded is not finite");
    found.push_back(wire);
    found.emplace_back(reinterpret_cast<unsigned char*>(out.data()),
                       reinterpret_cast<unsigned char*>(out.data() + out.size()));
  }

  void formats_of_blocks() {
    const std::size_t n = x.size();
    const std::size_t bytes[] = {2 * ((n + 255) / 256) + 2 * n, 2 * ((n + 255) / 256) + n,
                                 2 * ((n + 255) / 256) + n, 2 * ((n + 63) / 64) + (n + 1) / 2, 2 * n};
    for (int i = 0; i < formats; ++i) {
      const auto format = static_cast<Format>(i);
      both(
          bytes[i], [&](unsigned char* wire) { return encode(format, read(), wire); },
          [&](const unsigned char* wire, const Room& out) { decode(format, wire, out); });
    }
    both(
        4 + (n + 7) / 8, [&](unsigned char* wire) { return sign_encode(read(), wire); },
        [&](const unsigned char* wire, const Room& out) { sign_decode(wire, out); });
  }

  void levels(int many, std::size_t bucket) {
    int bits = 1;
    while (1 << bits < 2 * many + 1) ++bits;
    const Dither how{5, many, bits, bucket};
    both(
        4 * ((x.size() + bucket - 1) / bucket) + (x.size() * static_cast<std::size_t>(bits) + 7) / 8,
        [&](unsigned char* wire) { return dither_encode(read(), how, wire); },
        [&](const unsigned char* wire, const Room& out) { dither_decode(wire, how, out); });
  }

  void bins(int bits) {
    both((std::size_t(4) << bits) + (x.size() * static_cast<std::size_t>(bits) + 7) / 8,
         [&](unsigned char* wire) { return bins_encode(read(), bits, wire); },
         [&](const unsigned char* wire, const Room& out) { bins_decode(wire, bits, out); });
  }

  void largest(std::size_t chunk, std::size_t keep) {
    int bits = 0;
    while (std::size_t(1) << bits < chunk) ++bits;
    const Selection of{x.size(), chunk, keep, bits};
    std::vector<T> kept(kept_of(of));
    both((kept.size() * static_cast<std::size_t>(bits) + 7) / 8,
         [&](unsigned char* wire) { return select(read(), of, kept.data(), wire); },
         [&](const unsigned char* wire, const Room& out) {
           place(kept.data(), wire, of, out);
           add(kept.data(), wire, of, -0.25, out);
         });
    for (const int width : {16, 32, 64})
      both(
          x.size() * static_cast<std::size_t>(width) / 8,
          [&](unsigned char* wire) { return narrow(read(), width, wire), true; },
          [&](const unsigned char* wire, const Room& out) { widen(wire, width, out); });
  }
};

template <class T> void try_one(std::size_t n) {
  const std::vector<T> x = values<T>(n);
  const int many = static_cast<int>(1 + below(127)), bits = static_cast<int>(2 + below(7));
  const std::size_t bucket = 8 * (1 + below(200)), chunk = 1 + below(600), keep = 1 + below(chunk);
  std::vector<Bytes> wanted;
  for (std::size_t i = 0; i < codecs::available().count; ++i) {
    use_instruction_set(codecs::available().begin[i]->name);
    Case<T> made{x, {}};
    made.formats_of_blocks();
    made.levels(many, bucket);
    made.bins(bits);
    made.largest(chunk, keep);
    if (n) made.largest(n, 1 + below(1));
    if (i == 0) wanted = made.found;
    for (std::size_t k = 0; k < wanted.size(); ++k)
      check(made.found[k] == wanted[k], "instruction sets differ", static_cast<long>(i),
            static_cast<long>(k));
  }
}

}  // namespace

int main(int, char** given) {
  const long scale = given[1] ? std::atol(given[1]) : 1;
  for (long i = 0; i < 60 * scale; ++i) {
    try_one<float>(1 + below(i % 3 ? 300 : 9000));
    try_one<double>(1 + below(i % 3 ? 300 : 9000));
  }
  use_instruction_set(codecs::available().begin[0]->name);
  for (const std::size_t n :
       {std::size_t(0), (std::size_t(4) << 20) + 33}) {  // the latter is stored past the caches
    Case<float> large{values<float>(n), {}};
    large.formats_of_blocks();
    large.levels(127, 512);
    if (n) large.largest(4096, 64);
  }
  std::puts("codecs: every set gives the same words, within their bytes");
}
