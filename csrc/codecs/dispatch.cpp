// The instruction sets that this processor supports, as those of ops are.
#include "codecs/table.hpp"
#include "cpu/instruction_sets.hpp"

namespace loosestep {

LOOSESTEP_DECLARE(codecs::Table, codec_table)

namespace codecs {
namespace {

const Table* const all[] = {LOOSESTEP_ADDRESSES(codec_table)};

struct Supported {
  const Table* tables[3];
  size_t count = 0;
};

Supported detect() {
  Supported found;
  const loosestep::Tables sets = loosestep::available();
  for (size_t i = 0; i < sets.count; ++i)
    found.tables[found.count++] = &table_of(all, sets.begin[i]->name, "codecs");
  return found;
}

}  // namespace

Tables available() {
  static const Supported found = detect();
  return {found.tables, found.count};
}

}  // namespace codecs
}  // namespace loosestep
