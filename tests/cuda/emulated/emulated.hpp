// CUDA's execution model on one CPU thread, for tests: a kernel is compiled by g++ as it is, and executed.
//
// Blocks run one after another. Threads of a block run on fibres: a fibre takes thread after thread until one
// has to wait (a barrier, a shuffle), then another fibre takes the rest. When all wait, those whose partners
// have all come go on; when there are none, the launch fails and says who waits where. Shared memory that is
// asked for at launch begins as NaNs. `backwards` runs blocks and threads in the opposite order: a kernel
// that lacks a barrier gives other bits. A vector access that is not aligned fails, as on a GPU.
//
// Not shown: races between blocks or inside of a warp, memory order, what waits for another block, speed.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define __shared__ static

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  unsigned volume() const { return x * y * z; }
};
struct uint3 {
  unsigned x, y, z;
};

namespace emulated {

enum class Waits { no, block, warp };

struct Fibre {
  static constexpr std::size_t size = 64 << 10;
  ucontext_t context{};
  std::unique_ptr<char[]> stack{new char[size]};
};

struct Thread {
  uint3 index{};
  Waits waits = Waits::no;
  bool left = false;
  unsigned lanes = 0;                 // that it waits for, as a mask
  const char* at = "";                // by name: where it waits
  std::uint64_t given = 0, seen = 0;  // to a shuffle; what partners see of it once all have come
  Fibre* fibre = nullptr;
};

struct Shape {
  dim3 grid, block;
  unsigned shared, backwards;
};

// What is running: one launch at a time, as its entry holds no other.
inline Thread* self = nullptr;
inline uint3 block_index{};
inline Shape shape{};
inline std::vector<unsigned char> shared_bytes;
inline std::string fault;  // of a memory access

[[noreturn]] inline void fail(const std::string& text) { throw std::runtime_error(text); }

// One block at a time: its threads in order, and the fibres that they run on.
class Block {
 public:
  explicit Block(const std::function<void()>& body) : body(body), threads(shape.block.volume()) {
    order.resize(threads.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = shape.backwards ? order.size() - 1 - i : i;
  }

  void run() {
    begin();
    while (begun < threads.size() || anyone_waits()) {
      if (begun < threads.size())
        resume(*free_fibre());
      else
        let_go();
    }
  }

  void wait(Waits why, unsigned lanes, const char* at) {
    Thread& me = *self;
    me.waits = why, me.lanes = lanes, me.at = at;
    me.fibre = running;
    swapcontext(&running->context, &scheduler);
  }

  // Ends the thread for good, its fibre with it: nothing can be thrown across fibres.
  void die(const std::string& text) {
    fault = text + ": thread " + std::to_string(number(*self)) + ", block " + std::to_string(block_index.x);
    self->left = true;
    swapcontext(&running->context, &scheduler);
  }

  std::size_t number(const Thread& thread) const {
    return static_cast<std::size_t>(&thread - threads.data());
  }
  const Thread* lane(unsigned other) const {
    const std::size_t place = number(*self) / 32 * 32 + other;
    return other < 32 && place < threads.size() ? &threads[place] : nullptr;
  }

 private:
  void begin() {
    begun = 0;
    const dim3 size = shape.block;
    for (unsigned i = 0; i < threads.size(); ++i) {
      threads[i] = Thread{};
      threads[i].index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
    }
    std::fill(shared_bytes.begin(), shared_bytes.end(), 0xff);
  }

  // A fibre's whole life: thread after thread, until none is left that has not begun; then idle.
  static void live() {
    for (;;) current->take_threads();
  }

  void take_threads() {
    Fibre& mine = *running;
    while (begun < threads.size()) {
      self = &threads[order[begun++]];
      body();
      self->left = true;
    }
    idle.push_back(&mine);
    swapcontext(&mine.context, &scheduler);
  }

  Fibre* free_fibre() {
    if (idle.empty()) return made_fibre();
    Fibre* const found = idle.back();
    idle.pop_back();
    return found;
  }

  Fibre* made_fibre() {
    fibres.push_back(std::make_unique<Fibre>());
    ucontext_t& context = fibres.back()->context;
    getcontext(&context);
    context.uc_stack.ss_sp = fibres.back()->stack.get();
    context.uc_stack.ss_size = Fibre::size;
    makecontext(&context, live, 0);
    return fibres.back().get();
  }

  void resume(Fibre& fibre) {
    current = this;
    running = &fibre;
    swapcontext(&scheduler, &fibre.context);
  }

  bool anyone_waits() const {
    for (const Thread& thread : threads)
      if (thread.waits != Waits::no) return true;
    return false;
  }

  void let_go() {
    std::vector<Thread*> ready;
    for (std::size_t i : order)
      if (partners_have_come(threads[i])) ready.push_back(&threads[i]);
    if (!fault.empty()) fail(fault);
    if (ready.empty()) fail("threads wait for others that do not come: " + who_waits());
    for (Thread* thread : ready) thread->seen = thread->given, thread->waits = Waits::no;
    for (Thread* thread : ready) {
      self = thread;
      resume(*thread->fibre);
    }
  }

  bool partners_have_come(const Thread& thread) const {
    if (thread.waits == Waits::no) return false;
    const std::size_t first = thread.waits == Waits::block ? 0 : number(thread) / 32 * 32;
    const std::size_t many = thread.waits == Waits::block ? threads.size() : 32;
    for (std::size_t i = 0; i < many; ++i)
      if ((thread.waits == Waits::block || thread.lanes >> i & 1) && !waits_alike(first + i, thread))
        return false;
    return true;
  }

  bool waits_alike(std::size_t other, const Thread& thread) const {
    return other < threads.size() && threads[other].waits == thread.waits && threads[other].at == thread.at &&
           threads[other].lanes == thread.lanes;
  }

  std::string who_waits() const {
    std::string text;
    for (const Thread& thread : threads)
      if (thread.waits != Waits::no && text.size() < 200)
        text += "thread " + std::to_string(number(thread)) + " at " + thread.at + ", ";
    return text + "block " + std::to_string(block_index.x);
  }

  const std::function<void()>& body;
  std::vector<Thread> threads;
  std::vector<std::size_t> order;
  std::size_t begun = 0;
  std::vector<std::unique_ptr<Fibre>> fibres;
  std::vector<Fibre*> idle;
  Fibre* running = nullptr;
  ucontext_t scheduler{};

 public:
  static inline Block* current = nullptr;
};

inline void run_grid(const std::function<void()>& body) {
  Block block(body);
  const unsigned blocks = shape.grid.volume(), x = shape.grid.x, y = shape.grid.y;
  for (unsigned turn = 0; turn < blocks; ++turn) {
    const unsigned i = shape.backwards ? blocks - 1 - turn : turn;
    block_index = {i % x, i / x % y, i / x / y};
    block.run();
    if (!fault.empty()) fail(fault);
  }
}

template <class... A, std::size_t... I>
std::function<void()> bound(void (*kernel)(A...), void** given, std::index_sequence<I...>) {
  return [kernel, arguments = std::tuple<A...>{*static_cast<A*>(given[I])...}] {
    std::apply(kernel, arguments);
  };
}

// As a driver launches: an address for every argument. Returns what went wrong, or nothing.
template <class... A> const char* launch(const Shape& how, void** given, void (*kernel)(A...)) {
  static std::string error;
  shape = how;
  fault.clear();
  shared_bytes.assign(how.shared, 0xff);
  try {
    run_grid(bound(kernel, given, std::index_sequence_for<A...>{}));
  } catch (const std::exception& caught) {
    error = caught.what();
    return error.c_str();
  }
  return nullptr;
}

template <class T> std::uint64_t bits(T value) {
  static_assert(sizeof(T) <= 8);
  std::uint64_t found = 0;
  std::memcpy(&found, &value, sizeof(T));
  return found;
}

template <class T> T value(std::uint64_t bits) {
  T found;
  std::memcpy(&found, &bits, sizeof(T));
  return found;
}

// What lane `other` gave.
template <class T> T shuffle(unsigned lanes, T given, unsigned other, const char* at) {
  self->given = bits(given);
  Block::current->wait(Waits::warp, lanes, at);
  const Thread* partner = Block::current->lane(other);
  if (!partner || !(lanes >> other & 1))
    Block::current->die(std::string(at) + " reads a lane that is not in its mask");
  return value<T>(partner->seen);
}

inline unsigned lane() { return static_cast<unsigned>(Block::current->number(*self) % 32); }

inline unsigned ballot(unsigned lanes, bool vote, const char* at) {
  self->given = vote;
  Block::current->wait(Waits::warp, lanes, at);
  unsigned found = 0;
  for (unsigned i = 0; i < 32; ++i)
    if (lanes >> i & 1) found |= static_cast<unsigned>(Block::current->lane(i)->seen) << i;
  return found;
}

}  // namespace emulated

#define threadIdx (::emulated::self->index)
#define blockIdx (::emulated::block_index)
#define blockDim (::emulated::shape.block)
#define gridDim (::emulated::shape.grid)
#define warpSize 32

// --- waiting -----------------------------------------------------------------------------------------------

inline void __syncthreads() { emulated::Block::current->wait(emulated::Waits::block, 0, "__syncthreads"); }
inline void __syncwarp(unsigned lanes = ~0u) {
  emulated::Block::current->wait(emulated::Waits::warp, lanes, "__syncwarp");
}
inline void __threadfence() {}
inline void __threadfence_block() {}

// Lanes outside of `width` give back their own value, as on a GPU.
template <class T> T __shfl_sync(unsigned lanes, T given, int from, int width = 32) {
  const unsigned base = emulated::lane() / width * width;
  return emulated::shuffle(lanes, given, base + static_cast<unsigned>(from) % width, "__shfl_sync");
}
template <class T> T __shfl_down_sync(unsigned lanes, T given, unsigned by, int width = 32) {
  const unsigned me = emulated::lane();
  return emulated::shuffle(lanes, given, me % width + by < unsigned(width) ? me + by : me,
                           "__shfl_down_sync");
}
template <class T> T __shfl_up_sync(unsigned lanes, T given, unsigned by, int width = 32) {
  const unsigned me = emulated::lane();
  return emulated::shuffle(lanes, given, me % width >= by ? me - by : me, "__shfl_up_sync");
}
template <class T> T __shfl_xor_sync(unsigned lanes, T given, int by, int width = 32) {
  const unsigned me = emulated::lane(), other = me ^ static_cast<unsigned>(by);
  return emulated::shuffle(lanes, given, other / width == me / width ? other : me, "__shfl_xor_sync");
}
inline unsigned __ballot_sync(unsigned lanes, int vote) {
  return emulated::ballot(lanes, vote, "__ballot_sync");
}
inline int __any_sync(unsigned lanes, int vote) { return emulated::ballot(lanes, vote, "__any_sync") != 0; }
inline int __all_sync(unsigned lanes, int vote) {
  return emulated::ballot(lanes, vote, "__all_sync") == lanes;
}

// --- atomics: threads take turns, so plain ones do
// -----------------------------------------------------------

template <class T> T atomicExch(T* place, T value) {
  const T before = *place;
  *place = value;
  return before;
}
template <class T> T atomicAdd(T* place, T value) {
  return atomicExch(place, static_cast<T>(*place + value));
}
template <class T> T atomicMax(T* place, T value) {
  return atomicExch(place, *place < value ? value : *place);
}
template <class T> T atomicMin(T* place, T value) {
  return atomicExch(place, value < *place ? value : *place);
}
template <class T> T atomicOr(T* place, T value) { return atomicExch(place, *place | value); }
template <class T> T atomicCAS(T* place, T wanted, T value) {
  const T before = *place;
  if (before == wanted) *place = value;
  return before;
}

// --- what a compiler for GPUs has built in
// -------------------------------------------------------------------

inline unsigned __float_as_uint(float x) { return emulated::value<unsigned>(emulated::bits(x)); }
inline int __float_as_int(float x) { return emulated::value<int>(emulated::bits(x)); }
inline float __uint_as_float(unsigned x) { return emulated::value<float>(x); }
inline float __int_as_float(int x) { return emulated::value<float>(emulated::bits(x)); }
inline long long __double_as_longlong(double x) { return emulated::value<long long>(emulated::bits(x)); }
inline double __longlong_as_double(long long x) { return emulated::value<double>(emulated::bits(x)); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(std::uint64_t{a} * b >> 32); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
template <class T> T __ldg(const T* place) { return *place; }
template <class T> T __ldcs(const T* place) { return *place; }
template <class T> void __stcs(T* place, T value) { *place = value; }

// g++ calls this (-fsanitize=alignment) where an address is no multiple of what its type wants.
extern "C" void __ubsan_handle_type_mismatch_v1(void*, void*) {
  emulated::Block::current->die("an access is not aligned as its type wants");
}
