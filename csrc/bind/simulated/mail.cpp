// The parts of the simulator that every message passes: the calendar and the mailboxes.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "bind/simulated/network.hpp"
#include "bind/python/exclusive_call.hpp"
#include "simulated/calendar.hpp"
#include "simulated/mailbox.hpp"

namespace py = pybind11;
using namespace loosestep::simulated;
namespace bind = loosestep::bind;

namespace {

// The calendar as Python sees it, with the time of the last event taken from it.
struct BoundCalendar {
  mutable bind::UsingThread user;  // also of the Mail that uses it
  Calendar<py::object> calendar;
  double now = 0;

  py::object next() {
    const bind::OneThread use(user, "this Calendar");
    if (calendar.empty()) return py::none();
    auto [time, what] = calendar.pop();
    now = time;
    return what;
  }
};

// An exchange in flight.
struct PendingExchange {
  py::object strand;  // continues when it is done
  py::object recvs;   // keeps their buffers alive
  py::object notes;
  int rank;
  py::ssize_t missing;
  double arrived;  // when its latest part is done
  std::size_t together = 0;  // messages that it sends
  std::size_t received = 0;  // messages that it expects, and how many bytes came with them
  double bytes = 0;
};

struct Receive {
  std::shared_ptr<PendingExchange> pending;
  py::object into;
};

// A message, with a copy of its content if it has to wait: the sender's array may change.
struct Message {
  Message(const py::array& array, double note, double arrival, bool keep)
      : dtype(array.dtype()), size(array.size()), data(array.data()), note(note), arrival(arrival) {
    if (!keep) return;
    const auto* begin = static_cast<const char*>(data);
    kept.assign(begin, begin + array.nbytes());
    data = kept.data();
  }
  Message(Message&&) = default;

  py::dtype dtype;
  py::ssize_t size;
  const void* data;
  double note, arrival;
  std::vector<char> kept;
};

py::object attribute(py::handle object, PyObject* name) {
  PyObject* found = PyObject_GetAttr(object.ptr(), name);
  if (found == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(found);
}

py::array contiguous(py::handle given) {
  if (!py::isinstance<py::array>(given)) throw py::type_error("a message must be a numpy array");
  auto array = py::reinterpret_borrow<py::array>(given);
  if (!(array.flags() & py::array::c_style)) throw py::value_error("a message must be a contiguous array");
  return array;
}

std::uint32_t rank_of(PyObject* number) {
  const long rank = PyLong_AsLong(number);
  if (rank == -1 && PyErr_Occurred()) throw py::error_already_set();
  return static_cast<std::uint32_t>(rank);
}

// Call f(rank, buffer) for the pairs of an Exchange.
template <class F> void each_peer(py::handle pairs, F&& f) {
  const auto held = py::reinterpret_steal<py::tuple>(PySequence_Tuple(pairs.ptr()));  // a list may change
  if (!held) throw py::error_already_set();
  for (const py::handle each : held) {
    PyObject* const pair = each.ptr();
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2)
      throw py::type_error("a peer is a pair (rank, buffer)");
    f(rank_of(PyTuple_GET_ITEM(pair, 0)), py::handle(PyTuple_GET_ITEM(pair, 1)));
  }
}

// The exchanges: computes when every message arrives, matches it with its receive, and continues the workers.
class Mail {
 public:
  // check(source, content, strand, into) raises where the two do not match.
  Mail(BoundCalendar& calendar_, bind::BoundNetwork& network, py::function check)
      : calendar_(calendar_), network(network), check(std::move(check)) {}

  // Begin an exchange. Return when it is done, or None: then its strand is added to the calendar later.
  py::object exchange(const py::object& strand, const py::object& request) {
    const bind::OneThread use(calendar_.user, "this Mail");
    const std::uint32_t own = rank_of(attribute(strand, rank).ptr());
    const std::uint64_t tagged = PyLong_AsUnsignedLongLongMask(attribute(request, tag).ptr());
    auto pending =
        std::make_shared<PendingExchange>(strand, attribute(request, recvs), attribute(request, notes),
                                          static_cast<int>(own), 0, calendar_.now);
    const double note_sent = PyFloat_AsDouble(attribute(request, note).ptr());
    const auto sent = attribute(request, sends);
    pending->together = py::len(sent);
    each_peer(sent, [&](std::uint32_t to, py::handle buf) {
      deliver({own, to, tagged}, contiguous(buf), note_sent, *pending);
    });
    each_peer(pending->recvs, [&](std::uint32_t source, py::handle into) {
      ++pending->missing;
      ++pending->received;
      expect({source, own, tagged}, {pending, py::reinterpret_borrow<py::object>(into)});
    });
    return pending->missing ? py::none() : py::object(py::float_(done(*pending)));
  }

  void clear() {
    const bind::OneThread use(calendar_.user, "this Mail");
    messages.clear();
    receives.clear();
  }

 private:
  double done(const PendingExchange& pending) const {
    return pending.arrived + network.network.prices.received(pending.received, pending.bytes);
  }

  void deliver(const Address& address, const py::array& content, double note_sent, PendingExchange& sender) {
    network.require(address.from);
    network.require(address.to);
    const auto [sent, arrival] = network.network.send(
        address.from, address.to, static_cast<double>(content.nbytes()), calendar_.now, sender.together);
    sender.arrived = std::max(sender.arrived, sent);
    const auto receive = receives.take(address);
    if (!receive) return messages.put(address, {content, note_sent, arrival, true});
    accept(address, *receive, {content, note_sent, arrival, false});
    PendingExchange& waits = *receive->pending;
    if (!waits.missing) calendar_.calendar.push(done(waits), waits.rank, waits.strand);
  }

  void expect(const Address& address, const Receive& receive) {
    const auto message = messages.take(address);
    if (!message) return receives.put(address, receive);
    accept(address, receive, *message);
  }

  void accept(const Address& address, const Receive& receive, const Message& message) {
    PendingExchange& pending = *receive.pending;
    py::array into = contiguous(receive.into);
    if (into.size() != message.size || !into.dtype().is(message.dtype))
      check(address.from, py::array(message.dtype, {message.size}, message.data), pending.strand, into);
    std::copy_n(static_cast<const char*>(message.data), into.nbytes(),
                static_cast<char*>(into.mutable_data()));
    if (!pending.notes.is_none()) pending.notes[py::int_(address.from)] = message.note;
    --pending.missing;
    pending.bytes += static_cast<double>(into.nbytes());
    pending.arrived = std::max(pending.arrived, message.arrival);
  }

  BoundCalendar& calendar_;
  bind::BoundNetwork& network;
  py::function check;
  Mailbox<Message> messages;
  Mailbox<Receive> receives;
  PyObject *rank = PyUnicode_InternFromString("rank"), *tag = PyUnicode_InternFromString("tag"),
           *sends = PyUnicode_InternFromString("sends"), *recvs = PyUnicode_InternFromString("recvs"),
           *note = PyUnicode_InternFromString("note"), *notes = PyUnicode_InternFromString("notes");
};

}  // namespace

void bind_simulated(py::module_& m) {
  py::class_<BoundCalendar>(m, "Calendar")
      .def(py::init<>())
      .def_readonly("now", &BoundCalendar::now)
      .def("push",
           [](BoundCalendar& calendar_, double time, int rank, py::object what) {
             const bind::OneThread use(calendar_.user, "this Calendar");
             calendar_.calendar.push(time, rank, std::move(what));
           })
      .def("next", &BoundCalendar::next)
      .def("clear", [](BoundCalendar& calendar_) {
        const bind::OneThread use(calendar_.user, "this Calendar");
        calendar_.calendar.clear();
      });
  py::class_<Mail>(m, "Mail")
      .def(py::init([](BoundCalendar& calendar_, bind::BoundNetwork& network, py::function check) {
             return std::make_unique<Mail>(calendar_, network, std::move(check));
           }),
           py::keep_alive<1, 2>(), py::keep_alive<1, 3>(), py::arg("calendar"), py::arg("network"),
           py::arg("check"))
      .def("exchange", &Mail::exchange)
      .def("clear", &Mail::clear);
}
