// The visits and the machines of one instruction set. Compiled once for each, with LOOSESTEP_ISA its name.
#include "models/factors_learn.hpp"
#include "models/factors_visit.hpp"

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

namespace loosestep::LOOSESTEP_ISA {

using namespace factors;

constexpr std::make_integer_sequence<int, most_lines> every_length;

extern const Visits visits;
constexpr Visits visits =
    visits_of<Vectors<Singles>, Vectors<Doubles>, Adds::racy>(TEXT(LOOSESTEP_ISA), every_length);

extern const Machines machines;
constexpr Machines machines = machines_of<Vectors<Singles>>(TEXT(LOOSESTEP_ISA), every_length);

}  // namespace loosestep::LOOSESTEP_ISA
