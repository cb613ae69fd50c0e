// What can be wrong with a file.
#pragma once

#include <stdexcept>

namespace loosestep::reading {

// What is wrong with a line; who reads lines knows its number.
struct BadLine : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct BecameShorter : std::runtime_error {
  BecameShorter() : std::runtime_error("it became shorter while it was read") {}
};

// The caller wants no more of it.
struct Stopped {};

}  // namespace loosestep::reading
