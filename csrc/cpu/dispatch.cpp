// Which instruction sets this processor runs.
#include "cpu/kernels.hpp"

namespace loosestep {

#if defined(LOOSESTEP_X86)
namespace avx512 {
extern const Table table;
}
namespace avx2 {
extern const Table table;
}
#endif
namespace LOOSESTEP_BASELINE {
extern const Table table;
}

namespace {

struct Found {
  const Table* tables[3];
  std::size_t count = 0;
  void add(bool runs, const Table& table) {
    if (runs) tables[count++] = &table;
  }
};

Found found() {
  Found all;
#if defined(LOOSESTEP_X86)
  __builtin_cpu_init();
  all.add(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"),
          avx512::table);
  all.add(__builtin_cpu_supports("avx2"), avx2::table);
#endif
  all.add(true, LOOSESTEP_BASELINE::table);
  return all;
}

}  // namespace

Tables available() {
  static const Found all = found();
  return {all.tables, all.count};
}

}  // namespace loosestep
