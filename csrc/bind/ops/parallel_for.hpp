// Runs the kernel of a call, in several threads where that pays.
#pragma once
#include "bind/ops/arguments.hpp"
#include "cpu/threads.hpp"

namespace loosestep {

// Call part(addresses, begin, end, large) from several threads if the buffers are large, without the GIL.
// `large`: no cache holds the buffers, so streaming stores pay.
template <class F> void parallel_for(const Signature& s, const FlatBuffer* buffers, F&& part) {
  void* data[max_arguments];
  for (int i = 0; i < s.buffers; ++i) data[i] = buffers[i].data;
  const std::size_t bytes = buffers[0].bytes() * static_cast<std::size_t>(s.buffers);
  const ReleaseGilIfLarge released(bytes);
  parallel(buffers[0].n, block, bytes,
           [&](std::size_t begin, std::size_t end) { part(data, begin, end, bytes >= large_from); });
}

}  // namespace loosestep
