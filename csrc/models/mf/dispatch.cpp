// The kernels of matrix factorization by instruction set, and those that use atomics instead of vectors.
#include "cpu/instruction_sets.hpp"
#include "models/mf/model.hpp"
#include "models/mf/visit.hpp"

namespace loosestep {

LOOSESTEP_DECLARE(mf::KernelTable, mf_kernels)

}  // namespace loosestep

namespace loosestep::mf {
namespace {

const KernelTable* const tables[] = {LOOSESTEP_ADDRESSES(mf_kernels)};

constexpr std::make_integer_sequence<int, most_lines> all_lengths;

template <Adds adds>
constexpr KernelTable atomic_table =
    make_table<Atomics<Float32Rows, adds>, Atomics<Bfloat16Rows, adds>, adds>("atomic", all_lengths);

}  // namespace

constexpr KernelTable atomic_racy = atomic_table<Adds::racy>;
constexpr KernelTable atomic_exact = atomic_table<Adds::exact>;

const KernelTable& kernel_table(const char* instruction_set) {
  return table_of(tables, instruction_set, "matrix factorization");
}

}  // namespace loosestep::mf
