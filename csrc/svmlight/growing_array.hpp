// A growing array in memory mapped for it alone: unused capacity costs nothing, and freed memory returns to
// the system at once. (The heap would keep it, beside the arrays that the rows are copied to.)
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>
#include <utility>

namespace loosestep::svmlight {

template <class T> class GrowingArray {
 public:
  GrowingArray() = default;
  GrowingArray(GrowingArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  GrowingArray& operator=(GrowingArray&& other) noexcept {
    std::swap(data_, other.data_), std::swap(size_, other.size_), std::swap(capacity_, other.capacity_);
    return *this;
  }
  ~GrowingArray() {
    if (data_ != nullptr) munmap(data_, capacity_ * sizeof(T));
  }

  // Make room for `more` elements, which push() then adds without a check.
  void reserve(std::size_t more) {
    if (capacity_ - size_ < more) move_to(whole_pages(std::max(size_ + more, 2 * capacity_)));
  }
  void push(T value) { data_[size_++] = value; }

  // Free the unused capacity.
  void shrink_to_fit() {
    const std::size_t used = whole_pages(size_);
    if (used == capacity_) return;
    munmap(data_ + used, (capacity_ - used) * sizeof(T));
    capacity_ = used;
    if (capacity_ == 0) data_ = nullptr;
  }

  const T* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  static constexpr std::size_t page = 64 << 10;  // a multiple of the page size of every system

  static std::size_t whole_pages(std::size_t size) {
    return (size * sizeof(T) + page - 1) / page * page / sizeof(T);
  }

  void move_to(std::size_t capacity) {
    void* const memory =
        mmap(nullptr, capacity * sizeof(T), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    if (data_ != nullptr) {
      std::memcpy(memory, data_, size_ * sizeof(T));
      munmap(data_, capacity_ * sizeof(T));
    }
    data_ = static_cast<T*>(memory), capacity_ = capacity;
  }

  T* data_ = nullptr;
  std::size_t size_ = 0, capacity_ = 0;
};

}  // namespace loosestep::svmlight
