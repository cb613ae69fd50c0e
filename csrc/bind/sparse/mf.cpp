// Bindings of matrix factorization.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <limits>
#include <memory>
#include <string>

#include "bind/python/gil.hpp"
#include "bind/python/interruptible.hpp"
#include "cpu/kernels.hpp"
#include "models/mf/hogwild_epoch.hpp"
#include "models/mf/model.hpp"
#include "models/mf/negative_sampling.hpp"
#include "models/mf/rotation.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace loosestep::mf;

namespace {

template <class T> using Array = py::array_t<T, py::array::c_style>;

template <class T> std::span<const T> view(const Array<T>& array) {
  return {array.data(), static_cast<std::size_t>(array.size())};
}

void check_index(const Array<std::uint32_t>& index, std::size_t count, std::uint32_t rows, const char* name) {
  const std::span<const std::uint32_t> all = view(index);
  if (all.size() != count)
    throw py::value_error(std::string(name) + " must have as many elements as values, " +
                          std::to_string(count) + ", got " + std::to_string(all.size()));
  for (const std::uint32_t i : all)
    if (i >= rows)
      throw py::value_error(std::string(name) + " must be below " + std::to_string(rows) + ", got " +
                            std::to_string(i));
}

RatingGrid laid(std::span<const std::uint32_t> users, std::span<const std::uint32_t> items,
                std::span<const float> values, std::span<const float> weights,
                std::pair<std::uint32_t, std::uint32_t> shape, std::pair<std::uint32_t, std::uint32_t> blocks,
                std::uint64_t seed) {
  return {users,
          items,
          values,
          weights,
          BlockBounds(users, shape.first, blocks.first),
          BlockBounds(items, shape.second, blocks.second),
          seed};
}

void check_blocks(std::pair<std::uint32_t, std::uint32_t> blocks) {
  if (blocks.first < 1 || blocks.second < 1) throw py::value_error("blocks must be at least (1, 1)");
}

RatingGrid grid(const Array<std::uint32_t>& users, const Array<std::uint32_t>& items,
                const Array<float>& values, std::pair<std::uint32_t, std::uint32_t> shape,
                std::pair<std::uint32_t, std::uint32_t> blocks, std::uint64_t seed,
                const py::object& weights) {
  check_index(users, view(values).size(), shape.first, "users");
  check_index(items, view(values).size(), shape.second, "items");
  if (!weights.is_none() && !Array<float>::check_(weights))
    throw py::type_error("weights must be contiguous float32");
  const auto given = weights.is_none() ? Array<float>() : py::reinterpret_borrow<Array<float>>(weights);
  if (!weights.is_none() && given.size() != values.size())
    throw py::value_error("weights must have as many elements as values, " + std::to_string(values.size()) +
                          ", got " + std::to_string(given.size()));
  check_blocks(blocks);
  const loosestep::bind::ReleaseGil released;
  return laid(view(users), view(items), view(values), view(given), shape, blocks, seed);
}

py::tuple ratings(const RatingGrid& grid) {
  const auto n = static_cast<py::ssize_t>(grid.ratings().size());
  Array<std::uint32_t> users(n), items(n);
  Array<float> values(n), weights(n);
  for (py::ssize_t i = 0; i < n; ++i) {
    const Rating& rating = grid.ratings()[static_cast<std::size_t>(i)];
    users.mutable_at(i) = rating.user, items.mutable_at(i) = rating.item, values.mutable_at(i) = rating.value,
    weights.mutable_at(i) = rating.weight;
  }
  return py::make_tuple(users, items, values, weights);
}

template <class T> py::array copied(const std::vector<T>& values) {
  return Array<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

SeenPairs seen(const Array<std::uint32_t>& users, const Array<std::uint32_t>& items,
               const Array<float>& weights, std::pair<std::uint32_t, std::uint32_t> shape) {
  check_index(users, view(weights).size(), shape.first, "users");
  check_index(items, view(weights).size(), shape.second, "items");
  const loosestep::bind::ReleaseGil released;
  return {view(users), view(items), view(weights), shape};
}

RatingGrid sample(const SeenPairs& seen, std::uint32_t each, std::pair<std::uint32_t, std::uint32_t> blocks,
                  std::uint64_t seed, std::uint64_t epoch, int threads) {
  check_blocks(blocks);
  if (threads < 1) throw py::value_error("threads must be at least 1, got " + std::to_string(threads));
  return loosestep::bind::interruptible([&](auto stop) {
    const RatingColumns all = concatenated(seen.sample(each, seed, epoch, threads, stop));
    return laid(all.users, all.items, all.values, all.weights, seen.shape(), blocks, seed + epoch);
  });
}

// The arrays of one side: kept alive, checked once, updated in place.
class Rows {
 public:
  Rows(py::array rows, py::object bias, py::object squares, py::object l2_of, float l2)
      : rows_(std::move(rows)),
        bias_(std::move(bias)),
        squares_(std::move(squares)),
        l2_of_(std::move(l2_of)) {
    if (!half() && !Array<float>::check_(rows_))
      throw py::type_error("rows must be contiguous float32, or uint32 that hold two bfloat16 each");
    if (rows_.ndim() != 2 || rows_.shape(1) % line || lines() < 1 || lines() > most_lines)
      throw py::value_error(
          "rows must be 2-dimensional, each a multiple of 16 words of at most 128 elements");
    side_ = {rows_.mutable_data(), vector(bias_, "bias"), vector(squares_, "squares"),
             vector(l2_of_, "l2_of"), l2};
  }

  const Side& side() const { return side_; }
  bool half() const { return Array<std::uint32_t>::check_(rows_); }
  int lines() const { return static_cast<int>(rows_.shape(1)) / line * (half() ? 2 : 1); }
  std::uint32_t count() const { return static_cast<std::uint32_t>(rows_.shape(0)); }

 private:
  float* vector(const py::object& given, const char* name) {
    if (given.is_none()) return nullptr;
    if (!Array<float>::check_(given)) throw py::type_error(std::string(name) + " must be contiguous float32");
    auto array = py::reinterpret_borrow<Array<float>>(given);
    if (array.size() != rows_.shape(0))
      throw py::value_error(std::string(name) + " must have an element a row, " +
                            std::to_string(rows_.shape(0)) + ", got " + std::to_string(array.size()));
    return array.mutable_data();
  }

  py::array rows_;
  py::object bias_, squares_, l2_of_;
  Side side_;
};

class Factors {
 public:
  Factors(Rows users, Rows items, int rank)
      : users_(std::move(users)), items_(std::move(items)), rank_(rank) {
    if (users_.lines() != items_.lines() || users_.half() != items_.half())
      throw py::value_error("users and items must have rows of the same length and type");
    if (!users_.side().squares != !items_.side().squares)
      throw py::value_error("squares must be given for users and items, or for neither");
    if (rank < 1 || rank > users_.lines() * line)
      throw py::value_error("rank must be in 1 .. the rows' length");
  }

  py::tuple hogwild(const RatingGrid& grid, float rate, int threads, std::uint64_t seed, std::uint64_t epoch,
                    const std::string& adds, const std::string& set) const {
    check(grid, threads);
    const Epoch what{grid, model(rate), chosen(adds, set), threads, seed, epoch};
    return told(
        loosestep::bind::interruptible([&](auto stop) { return loosestep::mf::hogwild(what, stop); }));
  }

  py::tuple rotate(Rotation& rotation, float rate, const std::string& set) const {
    check(rotation.grid(), rotation.workers());
    const VisitKernel visit = chosen("racy", set);
    return told(loosestep::bind::interruptible(
        [&](auto stop) { return rotation.iterate(model(rate), visit, stop); }));
  }

 private:
  static py::tuple told(const VisitSums& visited) { return py::make_tuple(visited.squares, visited.ratings); }

  Model model(float rate) const { return {users_.side(), items_.side(), users_.lines(), rank_, rate}; }

  void check(const RatingGrid& grid, int threads) const {
    if (grid.users().rows() != users_.count() || grid.items().rows() != items_.count())
      throw py::value_error("the grid's shape must be that of the factors");
    if (threads < 1) throw py::value_error("threads must be at least 1, got " + std::to_string(threads));
  }

  VisitKernel chosen(const std::string& adds, const std::string& set) const {
    if (adds != "racy" && adds != "exact")
      throw py::value_error("adds must be 'racy' or 'exact', got '" + adds + "'");
    const KernelTable& found =
        adds == "exact"   ? atomic_exact
        : set == "atomic" ? atomic_racy
                          : kernel_table(set.empty() ? loosestep::available().begin[0]->name : set.c_str());
    const VisitKernel visit = found.of[users_.half() ? bfloat16 : float32][users_.lines() - 1];
    if (visit == nullptr) throw py::value_error("adds='exact' is not available for bfloat16");
    return visit;
  }

  Rows users_, items_;
  int rank_;
};

std::unique_ptr<Rotation> rotation(const RatingGrid& grid, int workers, const std::string& order,
                                   double seconds, std::uint64_t seed) {
  if (workers < 1) throw py::value_error("workers must be at least 1, got " + std::to_string(workers));
  if (!(seconds > 0)) throw py::value_error("seconds must be above 0, got " + std::to_string(seconds));
  if (order != "ring" && order != "permutation")
    throw py::value_error("order must be 'ring' or 'permutation', got '" + order + "'");
  return std::make_unique<Rotation>(grid, workers, order == "ring" ? Order::ring : Order::permutation,
                                    seconds, seed);
}

}  // namespace

void bind_mf(py::module_& m) {
  py::class_<RatingGrid>(m, "RatingGrid",
                         "Ratings, cut into a grid of users and items, shuffled in each cell.")
      .def(py::init(&grid), "users"_a.noconvert(), "items"_a.noconvert(), "values"_a.noconvert(), "shape"_a,
           "blocks"_a, "seed"_a, "weights"_a = py::none())
      .def_property_readonly("ratings", &ratings, "Copies of (users, items, values, weights), as they lie.")
      .def_property_readonly("begins", [](const RatingGrid& grid) { return copied(grid.begins()); })
      .def_property_readonly("user_cuts", [](const RatingGrid& grid) { return copied(grid.users().first()); })
      .def_property_readonly("item_cuts",
                             [](const RatingGrid& grid) { return copied(grid.items().first()); });
  py::class_<SeenPairs>(m, "SeenPairs", "Pairs (user, item) that were seen; draws others beside them.")
      .def(py::init(&seen), "users"_a.noconvert(), "items"_a.noconvert(), "weights"_a.noconvert(), "shape"_a)
      .def("drawn", &sample, "each"_a, "blocks"_a, "seed"_a, "epoch"_a, "threads"_a = 1,
           "A grid of the seen, of value 1, and `each` others for each of them, of value 0.");
  py::class_<Rows>(m, "FactorRows", "Users' or items' rows, and what belongs to each row.")
      .def(py::init<py::array, py::object, py::object, py::object, float>(), "rows"_a, "bias"_a = py::none(),
           "squares"_a = py::none(), "l2_of"_a = py::none(), "l2"_a = 0.0f);
  py::class_<Factors>(m, "Factors", "The two sides of a factorization; visits move them in place.")
      .def(py::init<Rows, Rows, int>(), "users"_a, "items"_a, "rank"_a)
      .def("hogwild", &Factors::hogwild, "grid"_a, "rate"_a, "threads"_a = 1, "seed"_a = 0, "epoch"_a = 0,
           "adds"_a = "racy", "isa"_a = "",
           "One epoch; the sum of e^2, each before its own update, and the ratings visited.")
      .def("rotate", &Factors::rotate, "rotation"_a, "rate"_a, "isa"_a = "",
           "One iteration of a rotation; returns the same.");
  py::class_<Rotation>(m, "Rotation",
                       "Workers keep their users; slices of the items go round a ring of workers.")
      .def(py::init(&rotation), py::keep_alive<1, 2>(), "grid"_a, "workers"_a, "order"_a = "ring",
           "seconds"_a = std::numeric_limits<double>::infinity(), "seed"_a = 0);
}
