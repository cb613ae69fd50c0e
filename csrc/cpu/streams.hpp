// Hand-written streams through memory, moves of scattered places, and the time a cache line takes from core
// to core.
#pragma once
#include <cstddef>
#include <cstdint>

namespace loosestep {

// Index 1: with streaming stores, which pass the caches by.
using Stream = void (*)(float* x, float* y, std::size_t begin, std::size_t end);
struct Streams {
  Stream update[2], copy[2];
};
const Streams& streams();  // of the best instruction set

// x[at[k]] += 1, one place after the other: what random access costs.
void touch(float* x, const std::uint32_t* at, std::size_t n);

// Seconds that a cache line takes one way between two threads; infinity where they never ran side by side.
double ping_pong();

}  // namespace loosestep
