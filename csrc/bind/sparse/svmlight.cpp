// Bindings of the svmlight reader.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cerrno>
#include <optional>
#include <string>
#include <system_error>

#include "bind/python/gil.hpp"
#include "bind/python/interruptible.hpp"
#include "svmlight/reader.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace loosestep::svmlight;
using loosestep::bind::interrupted;

namespace {

[[noreturn]] void os_error(int number, const std::string& what) {
  PyErr_SetObject(PyExc_OSError, py::make_tuple(number, what).ptr());
  throw py::error_already_set();
}

// Call f without the GIL and translate its exceptions.
template <class F> void without_gil(F f) {
  try {
    const loosestep::bind::ReleaseGil release;
    f();
  } catch (const Cancelled&) {
    throw py::error_already_set();
  } catch (const InvalidLine& line) {
    throw py::value_error(line.what());
  } catch (const std::system_error& error) {
    os_error(error.code().value(), error.code().message());
  } catch (const FileTruncated& error) {
    os_error(EIO, error.what());
  }
}

template <class Value> class SparseFile {
 public:
  SparseFile(int descriptor, std::int64_t begin, std::optional<std::int64_t> end, std::int32_t least,
             std::int32_t greatest, bool queries, int threads)
      : queries_(queries), reader_(opened(descriptor, begin, end, {least, greatest, queries}, threads)) {}

  void scan() {
    without_gil([&] { reader_.scan(interrupted); });
  }

  void fill(std::optional<std::size_t> rows) {
    without_gil([&] { reader_.fill(rows.value_or(Reader<Value>::all), interrupted); });
  }

  py::tuple take(std::optional<std::size_t> rows, std::int32_t base) {
    const std::size_t most = rows.value_or(Reader<Value>::all);
    const Sizes sizes = reader_.available(most);
    const auto count = py::ssize_t(sizes.rows), entries = py::ssize_t(sizes.entries);
    py::array_t<std::int64_t> starts(count + 1), queries(queries_ ? count : 0);
    py::array_t<std::int32_t> features(entries);
    py::array_t<Value> values(entries);
    py::array_t<double> targets(count);
    const Arrays<Value> into{starts.mutable_data(), features.mutable_data(), values.mutable_data(),
                             targets.mutable_data(), queries_ ? queries.mutable_data() : nullptr};
    without_gil([&] { reader_.take(most, base, into, interrupted); });
    return py::make_tuple(starts, features, values, targets, queries);
  }

  // Return the least and the greatest feature read so far (-1: none) and the first line with the greatest.
  py::tuple range() const {
    const FeatureRange& range = reader_.range();
    return py::make_tuple(range.greatest < 0 ? -1 : range.least, range.greatest, range.greatest_line);
  }

 private:
  static Reader<Value> opened(int descriptor, std::int64_t begin, std::optional<std::int64_t> end,
                              ParseOptions options, int threads) {
    if (begin < 0 || end.value_or(begin) < begin)
      throw py::value_error("begin must be at least 0 and end at least begin");
    if (threads < 1) throw py::value_error("threads must be at least 1, got " + std::to_string(threads));
    std::optional<File> file;
    without_gil([&] { file = File::of(descriptor); });
    return {*file, {begin, end.value_or(file->size)}, options, threads};
  }

  bool queries_;
  Reader<Value> reader_;
};

template <class Value> void bind_file(py::module_& m, const char* name) {
  using Bound = SparseFile<Value>;
  py::class_<Bound>(m, name,
                    "Rows of an open svmlight file, read in several threads; ValueError names a line.")
      .def(py::init<int, std::int64_t, std::optional<std::int64_t>, std::int32_t, std::int32_t, bool, int>(),
           "descriptor"_a, "begin"_a, "end"_a, "least"_a, "greatest"_a, "queries"_a, "threads"_a)
      .def("scan", &Bound::scan, "Reads to the end and keeps nothing but the range.")
      .def("fill", &Bound::fill, "rows"_a, "Reads on until so many rows wait (None: to the end).")
      .def("take", &Bound::take, "rows"_a, "base"_a,
           "The next rows: starts, features less base, values, targets, queries.")
      .def("range", &Bound::range);
}

}  // namespace

void bind_svmlight(py::module_& m) {
  bind_file<float>(m, "SparseFile32");
  bind_file<double>(m, "SparseFile64");
  m.attr("largest_feature") = largest_feature;
}
