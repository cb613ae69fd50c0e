// The kernels of factorization machines. Compiled once for each instruction set, with LOOSESTEP_ISA
// defined as its name.
#include "models/fm/example.hpp"

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

namespace loosestep::LOOSESTEP_ISA {

constexpr std::make_integer_sequence<int, simd::most_lines> all_lengths;

extern const fm::KernelTable fm_kernels;
constexpr fm::KernelTable fm_kernels =
    fm::make_table<simd::Vectors<simd::Float32Rows>>(TEXT(LOOSESTEP_ISA), all_lengths);

}  // namespace loosestep::LOOSESTEP_ISA
