// The table of one instruction set. Compiled once for each, with LOOSESTEP_ISA defined as its name. All but
// the table has internal linkage or is always inlined.
#include "codecs/bins.hpp"
#include "codecs/dither.hpp"
#include "codecs/matrix.hpp"
#include "codecs/select.hpp"
#include "codecs/sign.hpp"
#include "codecs/table.hpp"

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

namespace loosestep {
namespace codecs {
namespace {

template <class T> std::uint64_t largest(const void* x, size_t begin, size_t end) {
  return static_cast<std::uint64_t>(largest_size(static_cast<const T*>(x) + begin, end - begin));
}

}  // namespace
}  // namespace codecs

#define BOTH(function) {function<float>, function<double>}
#define CODED(function, Format) {function<Format, float>, function<Format, double>}

namespace LOOSESTEP_ISA {
using namespace codecs;
extern const codecs::Table codec_table;
constexpr codecs::Table codec_table = {
    TEXT(LOOSESTEP_ISA),
    {CODED(encode_blocks, Half), CODED(encode_blocks, E4m3), CODED(encode_blocks, E5m2),
     CODED(encode_blocks, Octaves), BOTH(encode_bfloat16)},
    {CODED(decode_blocks, Half), CODED(decode_blocks, E4m3), CODED(decode_blocks, E5m2),
     CODED(decode_blocks, Octaves), BOTH(decode_bfloat16)},
    BOTH(sign_encode),
    BOTH(sign_decode),
    BOTH(dither_encode),
    BOTH(dither_decode),
    BOTH(select),
    BOTH(collect),
    BOTH(moments),
    BOTH(bins_encode),
    BOTH(bins_decode),
    BOTH(times),
    BOTH(times_transposed),
    BOTH(product),
    BOTH(transform),
    BOTH(largest),
    sum_of_sums};
}  // namespace LOOSESTEP_ISA

}  // namespace loosestep
