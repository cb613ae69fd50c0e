// Reads the arguments of wire formats: values, and words of a message, which are float64.
#pragma once
#include <string>
#include <vector>

#include "bind/python/arrays.hpp"
#include "bind/python/gil.hpp"
#include "codecs/messages.hpp"

namespace loosestep::bind {

inline loosestep::Dtype kernel_dtype(shared::Dtype dtype) {
  return dtype == shared::Dtype::float32 ? loosestep::float32 : loosestep::float64;
}

inline codecs::Values values_of(const py::object& given, const char* name = "x") {
  const Array array = readable_array(given, name);
  return {array.data, array.size, kernel_dtype(array.dtype)};
}

inline codecs::Room room_of(const py::object& given, const char* name = "out") {
  const Array array = writable_array(given, name);
  return {array.data, array.size, kernel_dtype(array.dtype)};
}

inline unsigned char* bytes_in(const Array& array, const char* name, std::size_t least) {
  require_dtype(array, name, Dtype::float64, "all words");
  if (array.bytes() < least)
    refuse(name,
           "words of at least " + std::to_string(least) + " bytes, got " + std::to_string(array.bytes()));
  return static_cast<unsigned char*>(array.data);
}

// Return where a message is to be written, of at least so many bytes.
inline unsigned char* wire_of(const py::object& given, std::size_t least) {
  return bytes_in(writable_array(given, "wire"), "wire", least);
}

inline unsigned char* words_of(const py::object& given, std::size_t least) {
  return bytes_in(readable_array(given, "wire"), "wire", least);
}

inline double* doubles(const py::object& given, const char* name, std::size_t size, bool written) {
  const Array array = written ? writable_array(given, name) : readable_array(given, name);
  require_dtype(array, name, Dtype::float64, "it must be");
  require_size(array, name, size, "rows x rank, or rank x columns");
  return static_cast<double*>(array.data);
}

// Call without the GIL.
template <class F> auto run(F&& f) {
  const ReleaseGil released;
  return f();
}

}  // namespace loosestep::bind
