// Bindings of what processes of one host share.
#include <system_error>

#include "bind/shm/host.hpp"
#include "bind/shm/host_arena.hpp"
#include "bind/shm/host_buffer.hpp"
#include "bind/shm/host_center.hpp"
#include "bind/shm/host_lane.hpp"
#include "bind/shm/host_messages.hpp"

namespace py = pybind11;
using namespace py::literals;
using loosestep::bind::Host;
using loosestep::bind::HostArena;
using loosestep::bind::HostBuffer;
using loosestep::bind::HostCenter;
using loosestep::bind::HostLane;
using loosestep::bind::HostMessages;

namespace {

// Translate system errors to OSError, with our message.
void translate(std::exception_ptr thrown) {
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const std::system_error& error) {
    PyErr_SetObject(PyExc_OSError, py::make_tuple(error.code().value(), error.what()).ptr());
  } catch (const loosestep::shm::TimedOut& error) {
    PyErr_SetString(PyExc_TimeoutError, error.what());
  }
}

void bind_host_arena(py::module_& m) {
  py::class_<HostArena>(m, "HostArena", "Memory of each rank of a host that all its ranks map.")
      .def(py::init<const py::object&, int, int, bool>(), "path"_a, "size"_a, "rank"_a, "create"_a)
      .def_static("make", &HostArena::make, "size"_a, "A descriptor of new memory, none of it reserved.")
      .def("allocate", &HostArena::allocate, "bytes"_a, "Zeros of this rank, or None where there is no room.")
      .def("holds", &HostArena::holds, "array"_a.noconvert(), "Whether an array lies in this rank's memory.")
      .def("close", &HostArena::close, "Move all arrays to private memory at the same addresses.");
}

void bind_host_collectives(py::module_& m) {
  py::class_<Host>(m, "Host", "Collectives between the processes of one host, over memory that they all map.")
      .def(py::init<const py::object&, int, int, bool>(), "path"_a, "size"_a, "rank"_a, "create"_a)
      .def_static("make", &Host::make, "bytes"_a, "A descriptor of new memory, all of it reserved.")
      .def_static("needed", &Host::needed, "size"_a, "The bytes that a Host of so many ranks takes.")
      .def_property_readonly("size", &Host::size)
      .def_property_readonly("rank", &Host::rank)
      .def("use", &Host::use, "arena"_a, "direct_from"_a, "pieces"_a, "spins"_a,
           "How calls of each size are carried out from now on.")
      .def("all_reduce", &Host::all_reduce, "buf"_a, "op"_a, "weight"_a, "seconds"_a)
      .def("broadcast", &Host::broadcast, "buf"_a, "root"_a, "seconds"_a)
      .def("all_gather", &Host::all_gather, "piece"_a, "out"_a, "seconds"_a)
      .def("barrier", &Host::barrier, "seconds"_a)
      .def_property_readonly("moved", &Host::moved, "How many pieces this rank has published.")
      .def("abort", &Host::abort, "Every present and future wait of every process returns 'aborted'.")
      .def("beat_age", &Host::beat_age, "rank"_a, "Seconds since that rank's last heartbeat.")
      .def("note", &Host::note, "text"_a, "Publish what this rank is doing, in up to 160 bytes.")
      .def("noted", &Host::noted, "rank"_a)
      .def("close", &Host::close);
}

void bind_host_lane(py::module_& m) {
  py::class_<HostLane>(m, "HostLane", "Background collectives between the processes of one host.")
      .def(py::init<const py::object&, int, int, bool>(), "path"_a, "size"_a, "rank"_a, "create"_a)
      .def_property_readonly("size", &HostLane::size)
      .def_property_readonly("rank", &HostLane::rank)
      .def("use", &HostLane::use, "arena"_a, "direct_from"_a, "pieces"_a, "spins"_a, "As Host.use.")
      .def("all_reduce", &HostLane::all_reduce, "buf"_a, "op"_a, "weight"_a)
      .def("broadcast", &HostLane::broadcast, "buf"_a, "root"_a)
      .def("all_gather", &HostLane::all_gather, "piece"_a, "out"_a)
      .def("barrier", &HostLane::barrier)
      .def("wait", &HostLane::wait, "number"_a, "seconds"_a,
           "Block until all calls up to this one are done, and run them.")
      .def_property_readonly("moved", &HostLane::moved, "How many pieces this rank has published.")
      .def("abort", &HostLane::abort, "Every call of every process is 'aborted'.")
      .def("close", &HostLane::close);
}

void bind_host_center(py::module_& m) {
  py::class_<HostCenter>(m, "HostCenter", "The center in memory that the processes of a host map.")
      .def(py::init<const py::object&, std::size_t, const std::string&, bool, const py::object&>(), "path"_a,
           "size"_a, "dtype"_a, "create"_a, "initial"_a = py::none())
      .def_static("needed", &HostCenter::needed, "size"_a, "dtype"_a, "The bytes that such a center takes.")
      .def("elastic", &HostCenter::elastic, "x"_a, "rate"_a, "rank"_a = 0, "seconds"_a = 60.0)
      .def("fetch", &HostCenter::fetch, "out"_a, "rank"_a = 0, "seconds"_a = 60.0)
      .def("push", &HostCenter::push, "rule"_a, "others"_a, "values"_a, "scalars"_a, "rank"_a = 0,
           "seconds"_a = 60.0)
      .def("store", &HostCenter::store, "values"_a, "version"_a = 0, "seconds"_a = 60.0)
      .def_property_readonly("version", &HostCenter::version,
                             "How many times elastic() or push() has completed.")
      .def_property_readonly("size", &HostCenter::size)
      .def_property_readonly("dtype", &HostCenter::dtype)
      .def("close", &HostCenter::close);
}

void bind_host_buffer(py::module_& m) {
  py::class_<HostBuffer>(m, "HostBuffer", "A vector in memory that the processes of a host map.")
      .def(py::init<const py::object&, std::size_t, const std::string&, bool>(), "path"_a, "size"_a,
           "dtype"_a, "create"_a)
      .def_static("needed", &HostBuffer::needed, "size"_a, "dtype"_a, "The bytes that such a buffer takes.")
      .def_property_readonly("array", &HostBuffer::array)
      .def("close", &HostBuffer::close, "Move the array to private memory at the same address.");
}

void bind_host_messages(py::module_& m) {
  py::class_<HostMessages>(m, "HostMessages", "Messages between the processes of one host.")
      .def(py::init<const py::object&, std::vector<int>, int, bool, bool>(), "path"_a, "ranks"_a, "rank"_a,
           "create"_a, "pulls"_a = true)
      .def_static("needed", &HostMessages::needed, "size"_a, "The bytes that it takes for so many ranks.")
      .def("exchange", &HostMessages::exchange, "sends"_a, "recvs"_a, "tag"_a, "note"_a, "notes"_a, "round"_a,
           "seconds"_a, "Send and receive, and wait for it; 0 if it is done, else the number to wait for.")
      .def("begin", &HostMessages::begin, "sends"_a, "recvs"_a, "tag"_a, "note"_a, "notes"_a, "round"_a,
           "Begin an exchange whose end advance() reports; 0 if it is done.")
      .def("begin_mix", &HostMessages::begin_mix, "buf"_a, "weights"_a, "readers"_a, "tag"_a, "round"_a,
           "Begin a weighted sum over neighbours; wait() writes it.")
      .def("wait", &HostMessages::wait, "number"_a, "seconds"_a, "Go on with it; whether it is done.")
      .def("advance", &HostMessages::advance, "Move everything on, without waiting.")
      .def("rest", &HostMessages::rest, "seconds"_a, "Sleep until something may have come.")
      .def_property_readonly("sent", &HostMessages::sent, "Messages sent.")
      .def_property_readonly("received", &HostMessages::received, "Messages received, whole.")
      .def_property_readonly("moved", &HostMessages::moved, "Parts of long payloads received.")
      .def("close", &HostMessages::close);
}

}  // namespace

void bind_shm(py::module_& m) {
  py::register_local_exception_translator(translate);
  py::register_exception<loosestep::shm::OwnerDied>(m, "OwnerDied", PyExc_RuntimeError);
  bind_host_arena(m);
  bind_host_collectives(m);
  bind_host_lane(m);
  bind_host_center(m);
  bind_host_buffer(m);
  bind_host_messages(m);
}
