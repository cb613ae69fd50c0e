// The kernels of matrix factorization by instruction set, and those that use atomics instead of vectors.
#include <stdexcept>
#include <string>

#include "models/mf/model.hpp"
#include "models/mf/visit.hpp"

namespace loosestep {

#if defined(LOOSESTEP_X86)
namespace avx512 {
extern const mf::KernelTable mf_kernels;
}
namespace avx2 {
extern const mf::KernelTable mf_kernels;
}
#endif
namespace LOOSESTEP_BASELINE {
extern const mf::KernelTable mf_kernels;
}

}  // namespace loosestep

namespace loosestep::mf {
namespace {

const KernelTable* const tables[] = {
#if defined(LOOSESTEP_X86)
    &avx512::mf_kernels, &avx2::mf_kernels,
#endif
    &LOOSESTEP_BASELINE::mf_kernels};

constexpr std::make_integer_sequence<int, most_lines> all_lengths;

template <Adds adds>
constexpr KernelTable atomic_table =
    make_table<Atomics<Float32Rows, adds>, Atomics<Bfloat16Rows, adds>, adds>("atomic", all_lengths);

}  // namespace

constexpr KernelTable atomic_racy = atomic_table<Adds::racy>;
constexpr KernelTable atomic_exact = atomic_table<Adds::exact>;

const KernelTable& kernel_table(const char* instruction_set) {
  for (const KernelTable* const each : tables)
    if (std::string(each->name) == instruction_set) return *each;
  throw std::invalid_argument(std::string("matrix factorization has no kernels for the instruction set ") +
                              instruction_set);
}

}  // namespace loosestep::mf
