#include "svmlight/lines.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include "svmlight/errors.hpp"

namespace loosestep::svmlight {

File File::of(int descriptor) {
  struct stat facts;
  if (fstat(descriptor, &facts) != 0) throw std::system_error(errno, std::generic_category(), "fstat");
  return {descriptor, facts.st_size};
}

void File::read(char* into, std::int64_t begin, std::size_t count) const {
  for (std::size_t done = 0; done < count;) {
    const ssize_t got = pread(descriptor, into + done, count - done, begin + std::int64_t(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw std::system_error(errno, std::generic_category(), "pread");
    if (got == 0) throw FileTruncated();
    done += std::size_t(got);
  }
}

std::int64_t count_newlines(const File& file, ByteRange span) {
  std::vector<char> text(std::size_t(span.end - span.begin));
  file.read(text.data(), span.begin, text.size());
  return std::count(text.begin(), text.end(), '\n');
}

Lines::Lines(File file, ByteRange span, ReadBuffer& buffer)
    : file_(file),
      span_(span),
      read_(span.begin),
      buffer_(buffer),
      at_(buffer.text.get()),
      filled_(buffer.text.get()) {
  Line cut;
  if (span.begin > 0) next(cut);  // it begins before, or belongs to the range before
}

bool Lines::next(Line& line) {
  if (position() > span_.end || (at_ == filled_ && !refill())) return false;
  const char* const end = end_of_line();
  line = {at_, end};
  at_ = end == filled_ ? filled_ : at_ + (end - at_) + 1;
  return true;
}

const char* Lines::end_of_line() {
  for (std::size_t looked = 0;;) {
    const std::size_t there = std::size_t(filled_ - at_);
    if (const void* found = std::memchr(at_ + looked, '\n', there - looked))
      return static_cast<const char*>(found);
    looked = there;
    if (!refill()) {
      *filled_ = '\n';
      return filled_;
    }
  }
}

// Move the unread text to the front and read more; return false at the end of the file.
bool Lines::refill() {
  const std::size_t left = std::size_t(filled_ - at_);
  if (read_ == file_.size) return false;
  if (left >= longest) throw InvalidLine("is longer than 256 MiB");
  grow_or_shift(left);
  const std::int64_t wanted = std::max(span_.end - read_, std::max(beyond, std::int64_t(left)));
  const std::int64_t count = std::min({wanted, std::int64_t(buffer_.capacity - left), file_.size - read_});
  file_.read(filled_, read_, std::size_t(count));
  filled_ += count, read_ += count;
  return true;
}

void Lines::grow_or_shift(std::size_t left) {
  if (left < buffer_.capacity / 2) {
    std::memmove(buffer_.text.get(), at_, left);
  } else {
    ReadBuffer larger{4 * buffer_.capacity};
    std::memcpy(larger.text.get(), at_, left);
    buffer_ = std::move(larger);
  }
  at_ = buffer_.text.get(), filled_ = at_ + left;
}

}  // namespace loosestep::svmlight
