// A line of text that one process writes and others read at any time.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace loosestep::shm {

// A sequence lock: odd while the writer writes. Every word is atomic, so the text of a writer that was killed
// in the middle can still be read, half old and half new.
class StatusText {
 public:
  static constexpr std::size_t max_bytes = 160;  // bytes

  void write(std::string_view text) {
    std::array<std::uint64_t, words> packed{};
    std::memcpy(packed.data(), text.data(), utf8_prefix(text));
    const std::uint32_t before = version_.load(std::memory_order_relaxed);
    version_.store(before + 1, std::memory_order_relaxed);
    for (std::size_t i = 0; i < words; ++i) text_[i].store(packed[i], std::memory_order_release);
    version_.store(before + 2, std::memory_order_release);
  }

  std::string read() const {
    std::array<std::uint64_t, words> packed;
    for (int attempt = 0; attempt < 1000; ++attempt) {
      const std::uint32_t before = version_.load(std::memory_order_acquire);
      for (std::size_t i = 0; i < words; ++i) packed[i] = text_[i].load(std::memory_order_acquire);
      if (before % 2 == 0 && version_.load(std::memory_order_relaxed) == before) break;
    }
    const char* const bytes = reinterpret_cast<const char*>(packed.data());
    return std::string(bytes, ::strnlen(bytes, max_bytes));
  }

 private:
  static constexpr std::size_t words = max_bytes / sizeof(std::uint64_t);

  // Return how many bytes fit without cutting a UTF-8 character.
  static std::size_t utf8_prefix(std::string_view text) {
    if (text.size() <= max_bytes) return text.size();
    std::size_t n = max_bytes;
    while (n > 0 && (static_cast<unsigned char>(text[n]) & 0xC0) == 0x80) --n;
    return n;
  }

  std::atomic<std::uint32_t> version_{0};
  std::array<std::atomic<std::uint64_t>, words> text_{};
};

}  // namespace loosestep::shm
