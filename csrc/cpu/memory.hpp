// Memory for flat buffers.
#pragma once
#include <cstddef>

namespace loosestep {

// Zeroed, 64-byte aligned; from 2 MiB on in huge pages of its own where the system gives them, and first
// touched by the threads that will work on it, so that it lies near them.
void* allocate(std::size_t bytes);
void release(void* memory, std::size_t bytes);

}  // namespace loosestep
