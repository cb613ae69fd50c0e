// Whole numbers of a few bits, one after the other, the first in the lowest bits.
#pragma once
#include <cstddef>
#include <cstdint>

namespace loosestep::codecs {
namespace {

// For numbers of up to 56 bits.
class BitWriter {
 public:
  explicit BitWriter(unsigned char* to) : to_(to) {}
  void put(std::uint64_t number, int bits) {
    held_ |= number << count_;
    for (count_ += bits; count_ >= 8; count_ -= 8, held_ >>= 8) *to_++ = static_cast<unsigned char>(held_);
  }
  void finish() {
    if (count_ > 0) *to_ = static_cast<unsigned char>(held_);
  }

 private:
  unsigned char* to_;
  std::uint64_t held_ = 0;
  int count_ = 0;
};

// Reads no byte that it does not need.
class BitReader {
 public:
  explicit BitReader(const unsigned char* from) : from_(from) {}
  std::uint64_t get(int bits) {
    for (; count_ < bits; count_ += 8) held_ |= static_cast<std::uint64_t>(*from_++) << count_;
    const std::uint64_t number = held_ & ((std::uint64_t(1) << bits) - 1);
    held_ >>= bits, count_ -= bits;
    return number;
  }

 private:
  const unsigned char* from_;
  std::uint64_t held_ = 0;
  int count_ = 0;
};

// Write n numbers of 1 to 8 bits; where 8 is no multiple of the bits, n is a multiple of 8 or ends the message.
inline void pack(const unsigned char* numbers, std::size_t n, int bits, unsigned char* to) {
  const auto each = static_cast<std::size_t>(8 / bits);
  std::size_t i = 0;
  if (8 % bits == 0)
    for (; i + each <= n; i += each) {
      unsigned byte = 0;
      for (std::size_t j = 0; j < each; ++j) byte |= static_cast<unsigned>(numbers[i + j]) << (j * static_cast<std::size_t>(bits));
      to[i / each] = static_cast<unsigned char>(byte);
    }
  BitWriter rest(to + i * static_cast<std::size_t>(bits) / 8);
  for (; i < n; ++i) rest.put(numbers[i], bits);
  rest.finish();
}

inline void unpack(const unsigned char* from, std::size_t n, int bits, unsigned char* numbers) {
  const auto each = static_cast<std::size_t>(8 / bits);
  const unsigned mask = (1u << bits) - 1;
  std::size_t i = 0;
  if (8 % bits == 0)
    for (; i + each <= n; i += each)
      for (std::size_t j = 0; j < each; ++j)
        numbers[i + j] = static_cast<unsigned char>(from[i / each] >> (j * static_cast<std::size_t>(bits)) & mask);
  BitReader rest(from + i * static_cast<std::size_t>(bits) / 8);
  for (; i < n; ++i) numbers[i] = static_cast<unsigned char>(rest.get(bits));
}

}  // namespace
}  // namespace loosestep::codecs
