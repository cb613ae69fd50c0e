// The table of one instruction set. Compiled once for each, with LOOSESTEP_ISA defined as its name. All but
// the table has internal linkage or is always inlined.
#include "cpu/kernels.hpp"

#include "cpu/each.hpp"
#include "cpu/fold.hpp"
#include "cpu/noise.hpp"
#include "cpu/reduce.hpp"

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

namespace loosestep {
namespace {

template <template <class> class... R, template <class> class... N>
constexpr Table made_table(List<R...>, List<N...>) {
  return {TEXT(LOOSESTEP_ISA),
          {{elementwise<R<float>, float>, elementwise<R<double>, double>}...},
          {{elementwise_noisy<N<float>, float>, elementwise_noisy<N<double>, double>}...},
          {fold<float>, fold<double>},
          {dot<float>, dot<double>},
          sum_of_sums,
          {finite<float>, finite<double>}};
}

}  // namespace

namespace LOOSESTEP_ISA {
extern const Table table;
constexpr Table table = made_table(Elementwise{}, Noisy{});
}  // namespace LOOSESTEP_ISA

}  // namespace loosestep
