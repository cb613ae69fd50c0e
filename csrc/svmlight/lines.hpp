// The lines of a byte range of a file, read through a buffer that stays in cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace loosestep::svmlight {

// A file with the size that it had when it was opened. It is read by pread, not mapped: reading a mapping
// that another process truncates raises SIGBUS, which ends the program; here it is an error.
struct File {
  int descriptor = -1;
  std::int64_t size = 0;

  static File of(int descriptor);
  // Read all `count` bytes or throw; begin + count is at most `size`.
  void read(char* into, std::int64_t begin, std::size_t count) const;
};

struct ByteRange {
  std::int64_t begin = 0, end = 0;
};

std::int64_t count_newlines(const File& file, ByteRange span);

struct Line {
  const char* begin;
  const char* end;  // a '\n' stands there, whether the file has one or not
};

// The buffer for the bytes of a file. A thread keeps it: new pages are not free.
struct ReadBuffer {
  std::size_t capacity = 256 << 10;
  std::unique_ptr<char[]> text{new char[capacity + 1]};  // room for the '\n' of a last line without one
};

// The lines that begin after range.begin and not after range.end, and the one at byte 0: ranges that adjoin
// have every line between them once.
class Lines {
 public:
  Lines(File file, ByteRange span, ReadBuffer& buffer);
  bool next(Line& line);

 private:
  static constexpr std::size_t longest = std::size_t(1) << 28;
  static constexpr std::int64_t beyond = 4096;  // bytes read past the range, where its last line ends

  const char* end_of_line();
  bool refill();
  void grow_or_shift(std::size_t left);
  std::int64_t position() const { return read_ - (filled_ - at_); }

  File file_;
  ByteRange span_;
  std::int64_t read_;  // bytes before this one are read
  ReadBuffer& buffer_;
  char *at_, *filled_;
};

}  // namespace loosestep::svmlight
