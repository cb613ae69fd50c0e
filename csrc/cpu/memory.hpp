// Memory for flat buffers.
#pragma once
#include <cstddef>

namespace loosestep {

// Allocate zeroed memory with 64-byte alignment. From 2 MiB it lies in huge pages of its own where the system
// has them, and is first touched by the threads that will use it, so that it is near them.
void* allocate(std::size_t bytes);
void release(void* memory, std::size_t bytes);

}  // namespace loosestep
