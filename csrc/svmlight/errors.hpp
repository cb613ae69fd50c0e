// What can be wrong with a file.
#pragma once

#include <stdexcept>

namespace loosestep::svmlight {

// What is wrong with a line; who reads lines knows its number.
struct InvalidLine : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct FileTruncated : std::runtime_error {
  FileTruncated() : std::runtime_error("it became shorter while it was read") {}
};

// The caller wants no more of it.
struct Cancelled {};

}  // namespace loosestep::svmlight
