// What is compiled once for each instruction set, in a namespace of its name.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

// LOOSESTEP_DECLARE(Type, name) declares a constant of every set, LOOSESTEP_ADDRESSES(name) lists where they are.
#if defined(LOOSESTEP_X86)
#define LOOSESTEP_DECLARE(Type, name) \
  namespace avx512 {                  \
  extern const Type name;             \
  }                                   \
  namespace avx2 {                    \
  extern const Type name;             \
  }                                   \
  namespace LOOSESTEP_BASELINE {      \
  extern const Type name;             \
  }
#define LOOSESTEP_ADDRESSES(name) &avx512::name, &avx2::name, &LOOSESTEP_BASELINE::name
#else
#define LOOSESTEP_DECLARE(Type, name) \
  namespace LOOSESTEP_BASELINE {      \
  extern const Type name;             \
  }
#define LOOSESTEP_ADDRESSES(name) &LOOSESTEP_BASELINE::name
#endif

namespace loosestep {

// Return the table of an instruction set. `what` names the model in the error.
template <class Table, std::size_t count>
const Table& table_of(const Table* const (&tables)[count], const char* instruction_set, const char* what) {
  for (const Table* const each : tables)
    if (std::string(each->name) == instruction_set) return *each;
  throw std::invalid_argument(std::string(what) + " has no kernels for the instruction set " + instruction_set);
}

}  // namespace loosestep
