// Measurements of memory bandwidth, of random access, and of the latency between cores.
#pragma once
#include <cstddef>
#include <cstdint>

namespace loosestep {

// Index 1: with streaming stores, past the caches.
using Stream = void (*)(float* x, float* y, std::size_t begin, std::size_t end);
struct Streams {
  Stream update[2], copy[2];
};
const Streams& streams();  // of the best instruction set

// Do x[at[k]] += 1 for each k in turn: the cost of random access.
void touch(float* x, const std::uint32_t* at, std::size_t n);

// Return the seconds that a cache line takes from one thread to another; infinity if they never ran at the
// same time.
double ping_pong();

}  // namespace loosestep
