// A rule with its arguments, to be applied to centers.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "bind/ops/registry.hpp"
#include "bind/python/arrays.hpp"
#include "shared/center.hpp"

namespace loosestep::bind {

// Return the centers in `others`, nullptr for None. TypeError where one is of another type.
template <class Center> std::vector<Center*> pointers(const py::tuple& others, const char* wanted) {
  std::vector<Center*> all;
  for (const auto& each : others) {
    if (!each.is_none() && !py::isinstance<Center>(each))
      throw py::type_error("others[" + std::to_string(all.size()) + "] must be " + wanted + ", got " +
                           type_name(each));
    all.push_back(each.is_none() ? nullptr : py::cast<Center*>(each));
  }
  return all;
}

class PushRule {
 public:
  // The buffers of the rule are those of the centers, then the worker's `values`, which it must only read.
  PushRule(const std::string& rule, std::size_t centers, std::vector<double> scalars)
      : rule_(rule_named(rule)), centers_(centers), scalars_(std::move(scalars)) {
    const Signature& signature = rule_signatures()[rule_];
    counts_updates_ = signature.names.back() == "step";
    if (centers_ == 0) refuse("shared", "one variable or more, got none");
    require_writes_at_centers(signature);
    require_scalars(signature);
  }

  // Check and add the next of `values`, which must be like the centers.
  void take(py::handle value, Dtype dtype, std::size_t size) {
    const std::string name = "values[" + std::to_string(values_.size()) + "]";
    const Array array = readable_array(value, name.c_str());
    require_dtype(array, name.c_str(), dtype, "the center");
    require_size(array, name.c_str(), size, "as the center");
    values_.push_back(array);
  }

  void take_all(const py::tuple& values, Dtype dtype, std::size_t size) {
    for (const auto& value : values) take(value, dtype, size);
    const Signature& signature = rule_signatures()[rule_];
    const std::size_t wanted = static_cast<std::size_t>(signature.buffers) - centers_;
    if (values_.size() != wanted)
      refuse("values", parameter_list(signature, centers_, static_cast<std::size_t>(signature.buffers)) +
                           " of rule '" + signature.op + "', got " + std::to_string(values_.size()) +
                           " buffers");
  }

  template <class Center, class... Deadline>
  std::uint64_t run(const std::vector<Center*>& centers, int rank, Deadline... deadline) {
    std::vector<void*> data;
    for (Center* const center : centers) data.push_back(center->values());
    for (const Array& value : values_) data.push_back(value.data);
    const Kernel kernel = kernel_of<Center>(rule_);
    const auto work = [&](std::size_t begin, std::size_t end, std::uint64_t updates) {
      if (counts_updates_) scalars_.back() = static_cast<double>(updates);
      kernel(scalars_.data(), data.data(), begin, end, false);
    };
    return shared::apply_rule(centers, rank, work, deadline...);
  }

  // Apply d = rate (x - c); x -= d; c += d: the only rule that also writes the worker's buffer.
  template <class Center, class T, class... Deadline>
  static std::uint64_t elastic(Center& center, T* x, double rate, int rank, Deadline... deadline) {
    void* const data[] = {x, center.values()};
    const Kernel kernel = kernel_of<Center>(rule_named("elastic"));
    const auto work = [&](std::size_t begin, std::size_t end, std::uint64_t) {
      kernel(&rate, data, begin, end, false);
    };
    return shared::apply_rule(std::vector<Center*>{&center}, rank, work, deadline...);
  }

 private:
  static std::size_t rule_named(const std::string& name) {
    std::string known;
    for (std::size_t i = 0; i < rule_signatures().size(); ++i) {
      if (rule_signatures()[i].op == name) return i;
      known += (i ? ", " : "") + rule_signatures()[i].op;
    }
    refuse("rule", "one of " + known + ", got '" + name + "'");
  }

  template <class Center> static Kernel kernel_of(std::size_t rule) {
    return available().begin[0]->rules[rule]
                                      [sizeof(typename Center::Value) == sizeof(float) ? float32 : float64];
  }

  void require_writes_at_centers(const Signature& signature) const {
    const auto buffers = static_cast<std::size_t>(signature.buffers);
    if (centers_ > buffers)
      refuse("shared", "at most " + parameter_list(signature, 0, buffers) + " of rule '" + signature.op +
                           "', got " + std::to_string(centers_) + " variables");
    for (std::size_t i = centers_; i < buffers; ++i)
      if (signature.is_written(static_cast<int>(i)))
        refuse("rule", "one that writes shared variables alone, and '" + signature.op + "' writes " +
                           signature.names[i]);
  }

  // Check the scalars. A rule with a `step` takes it from the center's count of updates.
  void require_scalars(const Signature& signature) {
    const std::size_t all = signature.names.size(), given = all - (counts_updates_ ? 1 : 0);
    const auto first = static_cast<std::size_t>(signature.buffers);
    if (scalars_.size() != given - first)
      refuse("scalars", (given == first ? "empty, for none" : parameter_list(signature, first, given)) +
                            " of rule '" + signature.op + "', got " + std::to_string(scalars_.size()) +
                            " numbers");
    for (std::size_t i = 0; i < scalars_.size(); ++i)
      if (!std::isfinite(scalars_[i]))
        refuse(signature.names[first + i].c_str(), "finite, got " + std::to_string(scalars_[i]));
    scalars_.resize(all - first);
  }

  static std::string parameter_list(const Signature& signature, std::size_t first, std::size_t last) {
    std::string names;
    for (std::size_t i = first; i < last; ++i) names += (i > first ? ", " : "") + signature.names[i];
    return names;
  }

  std::size_t rule_, centers_;
  std::vector<double> scalars_;
  std::vector<Array> values_;
  bool counts_updates_;
};

}  // namespace loosestep::bind
