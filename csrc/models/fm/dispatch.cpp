// The kernels of factorization machines by instruction set, and those that use atomics instead of vectors.
#include "cpu/instruction_sets.hpp"
#include "models/fm/example.hpp"
#include "models/fm/model.hpp"

namespace loosestep {

LOOSESTEP_DECLARE(fm::KernelTable, fm_kernels)

}  // namespace loosestep

namespace loosestep::fm {
namespace {

const KernelTable* const tables[] = {LOOSESTEP_ADDRESSES(fm_kernels)};

constexpr std::make_integer_sequence<int, most_lines> all_lengths;

}  // namespace

constexpr KernelTable atomic_table = make_table<Atomics<Float32Rows, Adds::racy>>("atomic", all_lengths);

const KernelTable& kernel_table(const char* instruction_set) {
  return table_of(tables, instruction_set, "the factorization machine");
}

}  // namespace loosestep::fm
