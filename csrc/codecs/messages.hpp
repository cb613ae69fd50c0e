// Wire formats of whole vectors, by several threads where that pays. A function that returns bool says
// whether all values were finite; if not, what it wrote means nothing.
#pragma once
#include <string>
#include <vector>

#include "codecs/table.hpp"

namespace loosestep::codecs {

struct Values {
  const void* data;
  size_t n;
  Dtype dtype;
  size_t item() const { return dtype == float32 ? 4 : 8; }
  size_t bytes() const { return n * item(); }
};

struct Room {
  void* data;
  size_t n;
  Dtype dtype;
  size_t bytes() const { return n * (dtype == float32 ? 4 : 8); }
};

const Table& table();
void use_instruction_set(const std::string& name);  // for tests; std::invalid_argument for an unknown one

bool encode(Format format, const Values& x, unsigned char* wire);
void decode(Format format, const unsigned char* wire, const Room& out);
bool sign_encode(const Values& x, unsigned char* wire);
void sign_decode(const unsigned char* wire, const Room& out);
bool dither_encode(const Values& x, const Dither& how, unsigned char* wire);
void dither_decode(const unsigned char* wire, const Dither& how, const Room& out);
bool bins_encode(const Values& x, int bits, unsigned char* wire);
void bins_decode(const unsigned char* wire, int bits, const Room& out);

size_t kept_of(const Selection& of);  // in all chunks together
// Keep the largest of each chunk: values and packed indices, in order.
bool select(const Values& x, const Selection& of, void* kept, unsigned char* indices);
// Set `out` to what was kept, and to 0 elsewhere. std::invalid_argument for an index beyond its chunk.
void place(const void* kept, const unsigned char* indices, const Selection& of, const Room& out);
void add(const void* kept, const unsigned char* indices, const Selection& of, double weight, const Room& out);

// One of each of `keep` stretches of nearly equal length, drawn by a key.
void drawn(size_t n, size_t keep, std::uint64_t key, std::vector<size_t>& places);

// Values as bfloat16, float32 or float64, by the bits of one; the largest of a type stands for what is
// beyond.
void narrow(const Values& x, int bits, unsigned char* to);
void widen(const unsigned char* from, int bits, const Room& out);

bool finite(const Values& x);
double unit_of(const Values& x);  // a power of two that brings the largest value near 1

}  // namespace loosestep::codecs
