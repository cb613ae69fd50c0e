// SipHash-2-4: a keyed 64-bit checksum of short messages, which cannot be forged without the key.
// Aumasson and Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace loosestep::heartbeat {

using Key = std::array<std::uint64_t, 2>;

class SipHash {
 public:
  explicit SipHash(const Key& key)
      : v_{key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d, key[0] ^ 0x6c7967656e657261,
           key[1] ^ 0x7465646279746573} {}

  // Return the checksum of `words`. The final word of the algorithm then holds only the length.
  template <std::size_t n> std::uint64_t of(const std::array<std::uint64_t, n>& words) && {
    for (const std::uint64_t word : words) take(word);
    take(std::uint64_t(n * 8 % 256) << 56);
    v_[2] ^= 0xff;
    rounds(4);
    return v_[0] ^ v_[1] ^ v_[2] ^ v_[3];
  }

 private:
  static std::uint64_t turned(std::uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

  void take(std::uint64_t word) {
    v_[3] ^= word;
    rounds(2);
    v_[0] ^= word;
  }

  void rounds(int count) {
    auto& [a, b, c, d] = v_;
    for (; count > 0; --count) {
      a += b, b = turned(b, 13) ^ a, a = turned(a, 32);
      c += d, d = turned(d, 16) ^ c;
      a += d, d = turned(d, 21) ^ a;
      c += b, b = turned(b, 17) ^ c, c = turned(c, 32);
    }
  }

  std::array<std::uint64_t, 4> v_;
};

}  // namespace loosestep::heartbeat
