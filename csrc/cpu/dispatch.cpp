// The instruction sets that this processor supports.
#include "cpu/instruction_sets.hpp"
#include "cpu/kernels.hpp"
#include "cpu/streams.hpp"

namespace loosestep {

LOOSESTEP_DECLARE(Table, table)
LOOSESTEP_DECLARE(Streams, streams)

namespace {

struct Supported {
  const Table* tables[3];
  const Streams* streams[3];
  std::size_t count = 0;
  void add(bool runs, const Table& table, const Streams& bandwidth) {
    if (!runs) return;
    tables[count] = &table;
    streams[count++] = &bandwidth;
  }
};

Supported detect() {
  Supported sets;
#if defined(LOOSESTEP_X86)
  __builtin_cpu_init();
  sets.add(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"),
           avx512::table, avx512::streams);
  sets.add(__builtin_cpu_supports("avx2"), avx2::table, avx2::streams);
#endif
  sets.add(true, LOOSESTEP_BASELINE::table, LOOSESTEP_BASELINE::streams);
  return sets;
}

const Supported& supported() {
  static const Supported sets = detect();
  return sets;
}

}  // namespace

Tables available() { return {supported().tables, supported().count}; }
const Streams& streams() { return *supported().streams[0]; }

}  // namespace loosestep
