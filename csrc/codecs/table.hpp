// Wire formats: the loops of an instruction set, type-erased. `wire` is where a message begins; its layout is
// in the file of each format. A function that returns bool says whether all values were finite.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cpu/kernels.hpp"

namespace loosestep::codecs {

using std::size_t;

enum Format : int { float16, float8_e4m3, float8_e5m2, e3m0, bfloat16, formats };

// A part [begin, end) of a message of `count` values.
struct Part {
  size_t begin, end, count;
  bool large = false;  // no cache holds the values
};

// How values are rounded at random: `bits` for each of 2 levels + 1.
struct Dither {
  unsigned long long key;
  int levels, bits;
  size_t bucket;
};

// How many of each chunk are kept, and the bits of an index within its chunk.
struct Selection {
  size_t count, chunk, keep;
  int bits;
};

// The bin of a value is (unit x - shift) inverse + half the number of bins, rounded.
struct BinRule {
  double unit, shift, inverse;
  int bits;
};

// A matrix of `count` values row by row, the others being 0, times `unit`; `rank` columns of thin ones.
struct Matrix {
  const void* values;
  size_t count, columns, rank;
  double unit;
};

struct Table {
  const char* name;
  bool (*encode[formats][dtypes])(const void* x, unsigned char* wire, Part part);
  void (*decode[formats][dtypes])(const unsigned char* wire, void* out, Part part);
  bool (*sign_encode[dtypes])(const void* x, unsigned char* signs, double* sums, Part part);
  void (*sign_decode[dtypes])(const unsigned char* signs, double scale, void* out, Part part);
  bool (*dither_encode[dtypes])(const void* x, unsigned char* wire, const Dither& how, Part buckets);
  void (*dither_decode[dtypes])(const unsigned char* wire, void* out, const Dither& how, Part buckets);
  bool (*select[dtypes])(const void* x, const Selection& of, void* kept, unsigned char* indices, Part chunks);
  size_t (*collect[dtypes])(const void* x, size_t n, std::uint64_t least, std::uint32_t* to);
  void (*moments[dtypes])(const void* x, double unit, double* sums, double* squares, Part part);
  void (*bins_encode[dtypes])(const void* x, const BinRule& rule, unsigned char* codes, double* sums,
                              std::uint64_t* counts, Part part);
  void (*bins_decode[dtypes])(const unsigned char* codes, const float* table, int bits, void* out, Part part);
  void (*times[dtypes])(const Matrix& m, const double* q, double* p, size_t begin, size_t end);
  void (*times_transposed[dtypes])(const Matrix& m, const double* p, double* q, size_t begin, size_t end);
  void (*product[dtypes])(const double* p, const double* q, void* out, const Matrix& m, size_t begin,
                          size_t end);
  void (*transform[dtypes])(const void* x, void* out, const void* left, const void* right, size_t side,
                            size_t begin, size_t end);
  std::uint64_t (*largest[dtypes])(const void* x, size_t begin, size_t end);  // as an integer
  double (*sum_of_sums)(double* sums, size_t n);
};

struct Tables {
  const Table* const* begin;
  size_t count;
};
Tables available();  // in this processor, best first

}  // namespace loosestep::codecs
