// The elastic center in memory that processes map: what it is (shared/center.hpp), its locks, its values.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <random>
#include <stdexcept>
#include <string>

#include "host/robust_lock.hpp"
#include "shared/center.hpp"
#include "shared/post.hpp"

namespace loosestep::host {

struct CenterHead {
  static constexpr std::uint64_t ready = 0x6c6f6f7365630002;  // changes with the layout

  alignas(64) std::atomic<std::uint64_t> mark{0};  // written last
  std::uint64_t size = 0, width = 0;
  std::uint64_t place = 0;  // random: the same for all processes, another for every center
  alignas(64) std::atomic<std::uint64_t> version{0};
};

template <class T> class Center : public shared::CenterOver<T, RobustLock> {
  using Over = shared::CenterOver<T, RobustLock>;
  using Guard = shared::Guard<RobustLock>;

 public:
  static std::size_t bytes(std::size_t size) { return values_at(size) + size * sizeof(T); }

  // Over new memory, with these values (zeros for nullptr).
  static Center made(std::byte* memory, std::size_t size, const T* initial) {
    CenterHead* const head = new (memory) CenterHead;
    head->size = size, head->width = sizeof(T), head->place = random_place();
    for (std::size_t k = 0; k < Over::chunks(size, chunk); ++k)
      new (memory + guards + k * sizeof(Guard)) Guard;
    T* const values = reinterpret_cast<T*>(memory + values_at(size));
    if (initial)
      std::copy_n(initial, size, values);
    else
      std::fill_n(values, size, T(0));
    head->mark.store(CenterHead::ready, std::memory_order_release);
    return Center(memory, size);
  }

  static Center found(std::byte* memory, std::size_t size) {
    const CenterHead& head = head_of(memory);
    if (head.mark.load(std::memory_order_acquire) != CenterHead::ready)
      throw std::invalid_argument(
          "this shared memory was not made by HostCenter(create=True) of the same version");
    if (head.size != size || head.width != sizeof(T))
      throw std::invalid_argument("this shared memory holds " + described(head.size, head.width) +
                                  ", wanted " + described(size, sizeof(T)));
    return Center(memory, size);
  }

 private:
  static constexpr std::size_t page = 4096, guards = 128;
  static constexpr std::size_t chunk = 16 * 1024 / sizeof(T);
  static_assert(sizeof(CenterHead) <= guards);

  Center(std::byte* memory, std::size_t size)
      : Over(reinterpret_cast<T*>(memory + values_at(size)), size, reinterpret_cast<Guard*>(memory + guards),
             chunk, head_of(memory).version, head_of(memory).place) {}

  static std::uint64_t random_place() {
    std::random_device random;
    return static_cast<std::uint64_t>(random()) << 32 | random();
  }

  static CenterHead& head_of(std::byte* memory) {
    return *std::launder(reinterpret_cast<CenterHead*>(memory));
  }

  static std::size_t values_at(std::size_t size) {
    return (guards + Over::chunks(size, chunk) * sizeof(Guard) + page - 1) / page * page;
  }

  static std::string described(std::size_t size, std::size_t width) {
    return std::to_string(size) + (width == sizeof(float) ? " float32" : " float64");
  }
};

}  // namespace loosestep::host
