// A growing array in pages of its own: what is not yet used costs nothing, and what is given back is free at
// once. (A heap keeps it: two threads' parts and the arrays that they are copied to would lie there
// together.)
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>
#include <utility>

namespace loosestep::reading {

template <class T> class Column {
 public:
  Column() = default;
  Column(Column&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        room_(std::exchange(other.room_, 0)) {}
  Column& operator=(Column&& other) noexcept {
    std::swap(data_, other.data_), std::swap(size_, other.size_), std::swap(room_, other.room_);
    return *this;
  }
  ~Column() {
    if (data_ != nullptr) munmap(data_, room_ * sizeof(T));
  }

  // Room for `more` elements, so that push() needs none.
  void reserve(std::size_t more) {
    if (room_ - size_ < more) move_to(whole_pages(std::max(size_ + more, 2 * room_)));
  }
  void push(T value) { data_[size_++] = value; }

  // Gives the room back that is not used.
  void fit() {
    const std::size_t used = whole_pages(size_);
    if (used == room_) return;
    munmap(data_ + used, (room_ - used) * sizeof(T));
    room_ = used;
    if (room_ == 0) data_ = nullptr;
  }

  const T* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  static constexpr std::size_t page = 64 << 10;  // a multiple of every system's page

  static std::size_t whole_pages(std::size_t size) {
    return (size * sizeof(T) + page - 1) / page * page / sizeof(T);
  }

  void move_to(std::size_t room) {
    void* const memory =
        mmap(nullptr, room * sizeof(T), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    if (data_ != nullptr) {
      std::memcpy(memory, data_, size_ * sizeof(T));
      munmap(data_, room_ * sizeof(T));
    }
    data_ = static_cast<T*>(memory), room_ = room;
  }

  T* data_ = nullptr;
  std::size_t size_ = 0, room_ = 0;
};

}  // namespace loosestep::reading
