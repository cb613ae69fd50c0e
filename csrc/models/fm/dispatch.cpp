// The kernels of factorization machines by instruction set, and those that use atomics instead of vectors.
#include <stdexcept>
#include <string>

#include "models/fm/example.hpp"
#include "models/fm/model.hpp"

namespace loosestep {

#if defined(LOOSESTEP_X86)
namespace avx512 {
extern const fm::KernelTable fm_kernels;
}
namespace avx2 {
extern const fm::KernelTable fm_kernels;
}
#endif
namespace LOOSESTEP_BASELINE {
extern const fm::KernelTable fm_kernels;
}

}  // namespace loosestep

namespace loosestep::fm {
namespace {

const KernelTable* const tables[] = {
#if defined(LOOSESTEP_X86)
    &avx512::fm_kernels, &avx2::fm_kernels,
#endif
    &LOOSESTEP_BASELINE::fm_kernels};

constexpr std::make_integer_sequence<int, most_lines> all_lengths;

}  // namespace

constexpr KernelTable atomic_table = make_table<Atomics<Float32Rows, Adds::racy>>("atomic", all_lengths);

const KernelTable& kernel_table(const char* instruction_set) {
  for (const KernelTable* const each : tables)
    if (std::string(each->name) == instruction_set) return *each;
  throw std::invalid_argument(
      std::string("the factorization machine has no kernels for the instruction set ") + instruction_set);
}

}  // namespace loosestep::fm
