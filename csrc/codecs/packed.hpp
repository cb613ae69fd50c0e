// Whole numbers of a few bits, one after the other, the first in the lowest bits.
#pragma once
#include <cstddef>
#include <cstdint>

namespace loosestep::codecs {
namespace {

// For numbers of up to 32 bits.
class BitWriter {
 public:
  explicit BitWriter(unsigned char* to) : to_(to) {}
  void put(std::uint64_t number, int bits) {
    held_ |= number << count_;
    count_ += bits;
    if (count_ < 32) return;
    const auto some = static_cast<std::uint32_t>(held_);
    __builtin_memcpy(to_, &some, 4);
    to_ += 4, held_ >>= 32, count_ -= 32;
  }
  // Numbers of at most 16 bits are put in twos.
  void put_all(const std::uint32_t* numbers, std::size_t n, int bits) {
    std::size_t i = 0;
    if (bits <= 16)
      for (; i + 2 <= n; i += 2)
        put(numbers[i] | static_cast<std::uint64_t>(numbers[i + 1]) << bits, 2 * bits);
    for (; i < n; ++i) put(numbers[i], bits);
  }
  void finish() {
    for (; count_ > 0; count_ -= 8, held_ >>= 8) *to_++ = static_cast<unsigned char>(held_);
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

// Read n numbers of up to 32 bits from bit `begin` on of so many bytes: eight bytes at a time, as long as
// there are.
inline void unpack_at(const unsigned char* bytes, std::size_t begin, std::size_t many, int bits,
                      std::size_t* numbers, std::size_t n) {
  const auto width = static_cast<std::size_t>(bits);
  const std::uint64_t mask = (std::uint64_t(1) << bits) - 1;
  std::size_t i = 0;
  for (std::size_t at = begin; i < n && at / 8 + 8 <= many; ++i, at += width) {
    std::uint64_t some;
    __builtin_memcpy(&some, bytes + at / 8, 8);
    numbers[i] = some >> (at % 8) & mask;
  }
  if (i == n) return;
  const std::size_t at = begin + i * width;
  BitReader rest(bytes + at / 8);
  rest.get(static_cast<int>(at % 8));
  for (; i < n; ++i) numbers[i] = rest.get(bits);
}

template <unsigned bits>
inline void pack_whole(const unsigned char* numbers, std::size_t bytes, unsigned char* to) {
  constexpr unsigned each = 8 / bits;
  for (std::size_t i = 0; i < bytes; ++i) {
    unsigned byte = 0;
    for (unsigned j = 0; j < each; ++j) byte |= static_cast<unsigned>(numbers[each * i + j]) << (bits * j);
    to[i] = static_cast<unsigned char>(byte);
  }
}

template <unsigned bits>
inline void unpack_whole(const unsigned char* from, std::size_t bytes, unsigned char* numbers) {
  constexpr unsigned each = 8 / bits;
  for (std::size_t i = 0; i < bytes; ++i)
    for (unsigned j = 0; j < each; ++j)
      numbers[each * i + j] = static_cast<unsigned char>(from[i] >> (bits * j) & ((1u << bits) - 1));
}

// Write n numbers of 1 to 8 bits.
inline void pack(const unsigned char* numbers, std::size_t n, int bits, unsigned char* to) {
  std::size_t whole = 0;  // bytes
  if (bits == 8) return static_cast<void>(__builtin_memcpy(to, numbers, n));
  if (bits == 4) pack_whole<4>(numbers, whole = n / 2, to);
  if (bits == 2) pack_whole<2>(numbers, whole = n / 4, to);
  BitWriter rest(to + whole);
  for (std::size_t i = 8 * whole / static_cast<std::size_t>(bits); i < n; ++i) rest.put(numbers[i], bits);
  rest.finish();
}

inline void unpack(const unsigned char* from, std::size_t n, int bits, unsigned char* numbers) {
  std::size_t whole = 0;
  if (bits == 8) return static_cast<void>(__builtin_memcpy(numbers, from, n));
  if (bits == 4) unpack_whole<4>(from, whole = n / 2, numbers);
  if (bits == 2) unpack_whole<2>(from, whole = n / 4, numbers);
  BitReader rest(from + whole);
  for (std::size_t i = 8 * whole / static_cast<std::size_t>(bits); i < n; ++i)
    numbers[i] = static_cast<unsigned char>(rest.get(bits));
}

}  // namespace
}  // namespace loosestep::codecs
