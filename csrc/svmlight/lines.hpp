// The lines of a part of a file, through a window that stays in cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace loosestep::svmlight {

// A file as it was when it was opened. By pread, not mapped: of a mapping that another process cuts short,
// the next look is a SIGBUS, which ends the program; here it is an error.
struct File {
  int descriptor = -1;
  std::int64_t size = 0;

  static File of(int descriptor);
  // All of the bytes, or an error; `size` at least begin + count.
  void read(char* into, std::int64_t begin, std::size_t count) const;
};

struct ByteRange {  // of bytes
  std::int64_t begin = 0, end = 0;
};

std::int64_t count_newlines(const File& file, ByteRange span);

struct Line {
  const char* begin;
  const char* end;  // there stands a '\n', whether the file has one or not
};

// Where the bytes of a file lie while they are looked at. A thread keeps one: fresh pages are not free.
struct ReadBuffer {
  std::size_t capacity = 256 << 10;
  std::unique_ptr<char[]> text{
      new char[capacity + 1]};  // one byte more: a last line without an end is given one
};

// Lines that begin after span.begin and not after span.end, and the one at byte 0: so spans that lie end to
// end share out the lines between them.
class Lines {
 public:
  Lines(File file, ByteRange span, ReadBuffer& buffer);
  bool next(Line& line);

 private:
  static constexpr std::size_t longest = std::size_t(1) << 28;
  static constexpr std::int64_t beyond = 4096;  // bytes read past the span at once: its last line ends there

  const char* end_of_line();
  bool refill();
  void grow_or_shift(std::size_t left);
  std::int64_t position() const { return read_ - (filled_ - at_); }

  File file_;
  ByteRange span_;
  std::int64_t read_;  // up to this byte
  ReadBuffer& buffer_;
  char *at_, *filled_;
};

}  // namespace loosestep::svmlight
