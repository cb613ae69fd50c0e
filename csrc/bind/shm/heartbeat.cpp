// The binding of the heartbeat between hosts.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>

#include "bind/shared/collective_args.hpp"
#include "bind/shm/owned.hpp"
#include "heartbeat/udp_heartbeat.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace loosestep;

namespace {

class Pulse {
 public:
  Pulse(int rank, int size, bool local)
      : size_(size),
        open_(std::make_shared<heartbeat::UdpHeartbeat>(bind::at_least_one(size, "size"),
                                                        bind::checked_rank(rank, "rank", size), local)) {}

  py::bytes key() const {
    const heartbeat::Key key = pulse()->key();
    return py::bytes(reinterpret_cast<const char*>(key.data()), sizeof key);
  }
  int port() const { return pulse()->port(); }
  double age(int rank) const { return pulse()->age(bind::checked_rank(rank, "rank", size_)); }
  void close() { open_.close(); }

  void reach(const std::string& bytes, const std::vector<std::string>& addresses, int port) {
    heartbeat::Key key;
    if (bytes.size() != sizeof key) throw py::value_error("key must be the 16 bytes of another Pulse's key");
    std::memcpy(key.data(), bytes.data(), sizeof key);
    std::vector<sockaddr_in> found;
    for (const std::string& text : addresses) found.push_back(heartbeat::address(text, port));
    pulse()->add_peer(key, found);
  }

 private:
  std::shared_ptr<heartbeat::UdpHeartbeat> pulse() const { return open_.get("this Pulse"); }

  int size_;
  bind::ProcessOwned<heartbeat::UdpHeartbeat> open_;
};

}  // namespace

void bind_heartbeat(py::module_& m) {
  py::class_<Pulse>(m, "Pulse", "The heartbeat of a process for other hosts.")
      .def(py::init<int, int, bool>(), "rank"_a, "size"_a, "local"_a = false)
      .def_static("addresses", &heartbeat::own_addresses, "The IPv4 addresses of this host.")
      .def_property_readonly("key", &Pulse::key, "The key of the beats for this process.")
      .def_property_readonly("port", &Pulse::port)
      .def("reach", &Pulse::reach, "key"_a, "addresses"_a, "port"_a,
           "Send beats to these addresses from now on.")
      .def("age", &Pulse::age, "rank"_a, "Seconds since that rank's last beat; infinity before the first.")
      .def("close", &Pulse::close);
}
