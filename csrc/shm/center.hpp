// The center in memory that processes map: shared/center.hpp with robust locks.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <random>
#include <stdexcept>
#include <string>

#include "shared/center.hpp"
#include "shared/collective_args.hpp"
#include "shm/robust_lock.hpp"

namespace loosestep::shm {

struct CenterHeader {
  static constexpr std::uint64_t ready = 0x6c6f6f7365630002;  // changes with the layout

  alignas(64) std::atomic<std::uint64_t> magic{0};  // written last
  std::uint64_t size = 0, width = 0;
  std::uint64_t lock_order = 0;  // random: the same in all processes, different for every center
  alignas(64) std::atomic<std::uint64_t> version{0};
};

template <class T> class Center : public shared::CenterView<T, RobustLock> {
  using Over = shared::CenterView<T, RobustLock>;
  using ChunkLock = shared::ChunkLock<RobustLock>;

 public:
  static std::size_t bytes(std::size_t size) { return values_at(size) + size * sizeof(T); }

  // Construct a center in new memory, with the values of `initial` or zeros.
  static Center create(std::byte* memory, std::size_t size, const T* initial) {
    CenterHeader* const header = new (memory) CenterHeader;
    header->size = size, header->width = sizeof(T), header->lock_order = random_order();
    for (std::size_t k = 0; k < Over::chunks(size, chunk); ++k)
      new (memory + locks + k * sizeof(ChunkLock)) ChunkLock;
    T* const values = reinterpret_cast<T*>(memory + values_at(size));
    if (initial)
      std::copy_n(initial, size, values);
    else
      std::fill_n(values, size, T(0));
    header->magic.store(CenterHeader::ready, std::memory_order_release);
    return Center(memory, size);
  }

  static Center attach(std::byte* memory, std::size_t size) {
    const CenterHeader& header = header_of(memory);
    if (header.magic.load(std::memory_order_acquire) != CenterHeader::ready)
      throw std::invalid_argument(
          "this shared memory was not made by HostCenter(create=True) of the same version");
    if (header.size != size || header.width != sizeof(T))
      throw std::invalid_argument("this shared memory holds " + described(header.size, header.width) +
                                  ", wanted " + described(size, sizeof(T)));
    return Center(memory, size);
  }

 private:
  static constexpr std::size_t page = 4096, locks = 128;
  static constexpr std::size_t chunk = 16 * 1024 / sizeof(T);
  static_assert(sizeof(CenterHeader) <= locks);

  Center(std::byte* memory, std::size_t size)
      : Over(reinterpret_cast<T*>(memory + values_at(size)), size,
             reinterpret_cast<ChunkLock*>(memory + locks), chunk, header_of(memory).version,
             header_of(memory).lock_order) {}

  static std::uint64_t random_order() {
    std::random_device random;
    return static_cast<std::uint64_t>(random()) << 32 | random();
  }

  static CenterHeader& header_of(std::byte* memory) {
    return *std::launder(reinterpret_cast<CenterHeader*>(memory));
  }

  static std::size_t values_at(std::size_t size) {
    return (locks + Over::chunks(size, chunk) * sizeof(ChunkLock) + page - 1) / page * page;
  }

  static std::string described(std::size_t size, std::size_t width) {
    return std::to_string(size) + (width == sizeof(float) ? " float32" : " float64");
  }
};

}  // namespace loosestep::shm
