// The kernels of matrix factorization. Compiled once for each instruction set, with LOOSESTEP_ISA
// defined as its name.
#include "models/mf/visit.hpp"

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

namespace loosestep::LOOSESTEP_ISA {

constexpr std::make_integer_sequence<int, simd::most_lines> all_lengths;

extern const mf::KernelTable mf_kernels;
constexpr mf::KernelTable mf_kernels =
    mf::make_table<simd::Vectors<simd::Float32Rows>, simd::Vectors<simd::Bfloat16Rows>, simd::Adds::racy>(
        TEXT(LOOSESTEP_ISA), all_lengths);

}  // namespace loosestep::LOOSESTEP_ISA
