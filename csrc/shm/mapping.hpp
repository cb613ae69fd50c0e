// Memory that the processes of one host share. All of it is reserved when it is created: a lack of memory is
// an error there, and not a SIGBUS in the middle of a sum.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace loosestep::shm {

// Throw a system error with this errno and message.
[[noreturn]] inline void fail(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), what);
}

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }

  static File opened(const std::string& path, bool create) {
    const int flags = O_RDWR | O_CLOEXEC | (create ? O_CREAT | O_EXCL : 0);
    const int fd = ::open(path.c_str(), flags, 0600);
    if (fd < 0)
      fail(errno,
           (create ? "shared memory cannot be made at " : "shared memory cannot be opened at ") + path);
    return File(fd);
  }

  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

inline std::size_t size_of(int fd, const std::string& name) {
  struct stat found = {};
  if (::fstat(fd, &found) != 0) fail(errno, "shared memory " + name + " cannot be inspected");
  return static_cast<std::size_t>(found.st_size);
}

// Return the system's estimate in bytes, or the largest number where there is none.
inline std::size_t available_memory() {
  std::ifstream facts("/proc/meminfo");
  for (std::string name, rest; facts >> name && std::getline(facts, rest);)
    if (name == "MemAvailable:") return std::stoull(rest) * 1024;
  return std::numeric_limits<std::size_t>::max();
}

// Check that so much memory is available: an anonymous file has no limit, and the system would kill
// processes.
inline void require_available(std::size_t bytes) {
  if (const std::size_t left = available_memory(); bytes > left)
    fail(ENOMEM, "no room for " + std::to_string(bytes) + " bytes of shared memory, the system has " +
                     std::to_string(left) + " left");
}

// Grow the file to `bytes` and make the system allocate every page of it now.
inline void reserve(int fd, std::size_t bytes, const std::string& name) {
  int error = 0;
  while ((error = ::posix_fallocate(fd, 0, static_cast<off_t>(bytes))) == EINTR) {
  }
  if (error != 0) fail(error, "no room for " + std::to_string(bytes) + " bytes of shared memory in " + name);
}

// Return a descriptor of an anonymous file. Processes of the same user open it as /proc/PID/fd/N; it ends
// with its last user.
inline int make_memory(std::size_t bytes) {
  require_available(bytes);
  File file(::memfd_create("loosestep", MFD_CLOEXEC));
  if (file.get() < 0) fail(errno, "shared memory cannot be made");
  reserve(file.get(), bytes, "memory");
  return file.release();
}

class Mapping {
 public:
  Mapping(int fd, std::size_t bytes, const std::string& name) : bytes_(bytes) {
    const std::size_t found = size_of(fd, name);
    if (found < bytes)
      throw std::invalid_argument("shared memory " + name + " holds " + std::to_string(found) +
                                  " bytes, wanted " + std::to_string(bytes) +
                                  ": it was made for something else");
    void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) fail(errno, "shared memory " + name + " cannot be mapped");
    memory_ = static_cast<std::byte*>(memory);
    // forked children do not inherit the mapping; advice, so it may fail
    ::madvise(memory_, bytes_, MADV_DONTFORK);
  }
  // Return private memory, filled with zeros.
  static Mapping anonymous(std::size_t bytes) {
    constexpr int kind = MAP_PRIVATE | MAP_ANONYMOUS;
    void* const memory =
        ::mmap(nullptr, std::max<std::size_t>(bytes, 1), PROT_READ | PROT_WRITE, kind, -1, 0);
    if (memory == MAP_FAILED) fail(errno, "no room for " + std::to_string(bytes) + " bytes of memory");
    return Mapping(static_cast<std::byte*>(memory), std::max<std::size_t>(bytes, 1));
  }
  Mapping(Mapping&& other) noexcept : memory_(std::exchange(other.memory_, nullptr)), bytes_(other.bytes_) {}
  ~Mapping() {
    if (memory_) ::munmap(memory_, bytes_);
  }

  std::byte* memory() const { return memory_; }

  // Replace these pages by those of `other`, which has the same size, atomically: the address stays valid.
  void replace_with(Mapping other) {
    if (::mremap(other.memory_, bytes_, bytes_, MREMAP_MAYMOVE | MREMAP_FIXED, memory_) == MAP_FAILED)
      fail(errno, "shared memory cannot be replaced by private memory");
    other.forget();
  }

  void forget() { memory_ = nullptr; }  // in a forked child, where this address may be in other use

 private:
  Mapping(std::byte* memory, std::size_t bytes) : memory_(memory), bytes_(bytes) {}

  std::byte* memory_ = nullptr;
  std::size_t bytes_;
};

}  // namespace loosestep::shm
