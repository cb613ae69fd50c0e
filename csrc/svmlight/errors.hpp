// The errors of reading a file.
#pragma once

#include <stdexcept>

namespace loosestep::svmlight {

// What is wrong with a line; its number is added where lines are counted.
struct InvalidLine : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct FileTruncated : std::runtime_error {
  FileTruncated() : std::runtime_error("it became shorter while it was read") {}
};

// The caller asked to stop.
struct Cancelled {};

}  // namespace loosestep::svmlight
