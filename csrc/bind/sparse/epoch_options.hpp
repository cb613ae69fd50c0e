// The options of one epoch of a linear model: Python gives a dictionary with exactly the keys of the table
// below.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "models/linear/model.hpp"

namespace loosestep::bind {

namespace py = pybind11;

// What Python calls a value of an enumeration.
template <class Enum> struct Word {
  const char* word;
  Enum value;
};

template <class Enum> struct Words;  // `all`: every word of the enumeration

template <> struct Words<models::LossKind> {
  static constexpr Word<models::LossKind> all[] = {
      {"hinge", models::LossKind::hinge},           {"huber", models::LossKind::huber},
      {"log_loss", models::LossKind::logistic},     {"softmax", models::LossKind::softmax},
      {"squared_error", models::LossKind::squared}, {"squared_hinge", models::LossKind::squared_hinge}};
};

template <> struct Words<models::Schedule> {
  static constexpr Word<models::Schedule> all[] = {{"constant", models::Schedule::constant},
                                                   {"invscaling", models::Schedule::invscaling},
                                                   {"optimal", models::Schedule::optimal}};
};

template <> struct Words<models::Precision> {
  static constexpr Word<models::Precision> all[] = {{"bfloat16", models::Precision::bfloat16},
                                                    {"float32", models::Precision::float32}};
};

template <> struct Words<models::Adds> {
  static constexpr Word<models::Adds> all[] = {{"exact", models::Adds::exact}, {"racy", models::Adds::racy}};
};

template <> struct Words<models::Discipline> {
  static constexpr Word<models::Discipline> all[] = {{"free", models::Discipline::free},
                                                     {"locked", models::Discipline::locked},
                                                     {"turns", models::Discipline::turns}};
};

template <class Enum> Enum enum_value(const char* name, const std::string& given) {
  std::string known;
  for (const Word<Enum>& each : Words<Enum>::all) {
    if (given == each.word) return each.value;
    known += (known.empty() ? "" : ", ") + std::string(each.word);
  }
  throw py::value_error(std::string(name) + " must be one of " + known + "; got " + given);
}

template <class T> constexpr const char* kind_of() {
  if constexpr (std::is_enum_v<T>) return "a str";
  if constexpr (std::is_same_v<T, bool>) return "a bool";
  return std::is_integral_v<T> ? "a whole number of at least 0" : "a number";
}

// Return the value of one option. TypeError where it is of another type; only a number is converted.
template <class T> T option_value(const char* name, py::handle given) {
  using Loaded = std::conditional_t<std::is_enum_v<T>, std::string, T>;
  py::detail::make_caster<Loaded> caster;
  if (!caster.load(given, std::is_arithmetic_v<T> && !std::is_same_v<T, bool>))
    throw py::type_error(std::string(name) + " must be " + kind_of<T>() + ", got " +
                         std::string(py::str(py::repr(given))));
  if constexpr (std::is_enum_v<T>)
    return enum_value<T>(name, py::detail::cast_op<Loaded>(caster));
  else
    return py::detail::cast_op<T>(caster);
}

template <class Member> struct Option {
  const char* name;
  Member member;
};

#define OPTION(name, field)                                                    \
  Option {                                                                     \
    name, [](models::EpochOptions& options) -> auto& { return options.field; } \
  }
inline constexpr std::tuple option_table{OPTION("loss", loss.kind),
                                         OPTION("epsilon", loss.epsilon),
                                         OPTION("schedule", rate.schedule),
                                         OPTION("eta0", rate.eta0),
                                         OPTION("power_t", rate.exponent),
                                         OPTION("alpha", rate.alpha),
                                         OPTION("offset", rate.offset),
                                         OPTION("l2", l2),
                                         OPTION("l1", l1),
                                         OPTION("intercept_step", intercept_step),
                                         OPTION("adagrad", adagrad),
                                         OPTION("deterministic", deterministic),
                                         OPTION("diagnose", diagnose),
                                         OPTION("average", average),
                                         OPTION("adds", adds),
                                         OPTION("discipline", discipline),
                                         OPTION("seed", seed),
                                         OPTION("epoch", epoch),
                                         OPTION("steps", steps),
                                         OPTION("period", period),
                                         OPTION("measure", measure),
                                         OPTION("tail_every", tail_every)};
#undef OPTION

inline void check_option_names(const py::dict& given) {
  py::list missing, unknown(given);
  const auto find = [&](const char* name) {
    if (given.contains(name))
      unknown.attr("remove")(name);
    else
      missing.append(name);
  };
  std::apply([&](const auto&... option) { (find(option.name), ...); }, option_table);
  if (!unknown.empty()) throw py::type_error("unknown options: " + std::string(py::str(unknown)));
  if (!missing.empty()) throw py::type_error("missing options: " + std::string(py::str(missing)));
}

// Return the options in `given`. TypeError where a key is unknown or missing or a value is of another type.
inline models::EpochOptions epoch_options(const py::dict& given) {
  check_option_names(given);
  models::EpochOptions options;
  const auto read = [&](const auto& option) {
    auto& member = option.member(options);
    member = option_value<std::remove_reference_t<decltype(member)>>(option.name, given[option.name]);
  };
  std::apply([&](const auto&... option) { (read(option), ...); }, option_table);
  if (options.period < 1 || options.measure < 1 || options.tail_every < 1)
    throw py::value_error("period, tail_every and measure must be at least 1");
  return options;
}

}  // namespace loosestep::bind
