// UDP over IPv4: small messages between hosts, which may be lost.
#pragma once

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "shm/mapping.hpp"

namespace loosestep::heartbeat {

inline sockaddr_in address(const std::string& text, int port) {
  sockaddr_in found{};
  found.sin_family = AF_INET;
  found.sin_port = htons(static_cast<std::uint16_t>(port));
  if (::inet_pton(AF_INET, text.c_str(), &found.sin_addr) != 1)
    throw std::invalid_argument("expected an IPv4 address, got " + text);
  return found;
}

// Return the IPv4 addresses of all interfaces of this host that are up, the loopback interface included.
inline std::vector<std::string> own_addresses() {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) shm::fail(errno, "cannot find the addresses of this host");
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(all, &::freeifaddrs);
  std::vector<std::string> found;
  for (const ifaddrs* one = all; one; one = one->ifa_next) {
    if (!one->ifa_addr || one->ifa_addr->sa_family != AF_INET || !(one->ifa_flags & IFF_UP)) continue;
    char text[INET_ADDRSTRLEN];
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr, text, sizeof text);
    found.emplace_back(text);
  }
  return found;
}

// A nonblocking socket, bound to an address of this host and a port that the system chose.
class Socket {
 public:
  explicit Socket(const std::string& at)
      : file_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_in mine = address(at, 0);
    if (file_.get() < 0 || ::bind(file_.get(), reinterpret_cast<sockaddr*>(&mine), sizeof mine) != 0)
      shm::fail(errno, "cannot open a socket for the heartbeat between hosts");
  }

  int get() const { return file_.get(); }

  int port() const {
    sockaddr_in mine{};
    socklen_t length = sizeof mine;
    if (::getsockname(file_.get(), reinterpret_cast<sockaddr*>(&mine), &length) != 0)
      shm::fail(errno, "cannot find the port of the heartbeat's socket");
    return ntohs(mine.sin_port);
  }

  // Send without reporting an error: a message that cannot be sent counts as lost, like one that the network
  // drops.
  template <class T> void send(const T& what, const sockaddr_in& to) const {
    static_cast<void>(
        ::sendto(file_.get(), &what, sizeof what, 0, reinterpret_cast<const sockaddr*>(&to), sizeof to));
  }

  // Receive one message; return whether there was one. `fits` is false for a message of another length.
  template <class T> bool receive(T& into, bool& fits) const {
    const ssize_t length = ::recv(file_.get(), &into, sizeof into, MSG_TRUNC);
    fits = length == static_cast<ssize_t>(sizeof into);
    return length >= 0;
  }

 private:
  shm::File file_;
};

}  // namespace loosestep::heartbeat
