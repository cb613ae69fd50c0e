// The heartbeat of a process for other hosts: a thread outside Python sends a datagram to each of them twice
// a second and records theirs. It continues during a long computation and stops when the process is stopped,
// killed or disconnected. No other data takes this way, so a lost datagram does no harm. Every beat has an
// increasing number and a checksum with the receiver's key, so that neither a forged nor a replayed beat is
// accepted.
#pragma once

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "heartbeat/siphash.hpp"
#include "heartbeat/udp.hpp"
#include "shm/block_signals.hpp"

namespace loosestep::heartbeat {

using Clock = std::chrono::steady_clock;

// Return a key that only the processes of one run share; datagrams without it are ignored.
inline Key random_key() {
  std::random_device source;
  const auto word = [&source] { return std::uint64_t(source()) << 32 | source(); };
  return {word(), word()};
}

struct Beat {
  std::uint64_t number;  // of the sender's beats, counted from 1
  std::uint64_t rank;
  std::uint64_t checksum;

  static Beat create(const Key& key, std::uint64_t number, std::uint64_t rank) {
    return {number, rank, SipHash(key).of(std::array{number, rank})};
  }
  bool is_made_with(const Key& key) const { return checksum == create(key, number, rank).checksum; }
};

class UdpHeartbeat {
 public:
  static constexpr std::chrono::milliseconds period{500};

  // `local`: all processes are on this machine, so the socket is bound to the loopback interface.
  UdpHeartbeat(int size, int rank, bool local)
      : rank_(static_cast<std::uint64_t>(rank)),
        last_heard_(static_cast<std::size_t>(size)),
        last_number_(static_cast<std::size_t>(size)),
        socket_(local ? "127.0.0.1" : "0.0.0.0"),
        end_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (end_.get() < 0) shm::fail(errno, "cannot create an event for the heartbeat between hosts");
    const shm::BlockSignals blocked;
    thread_ = std::thread([this] { run(); });
  }
  ~UdpHeartbeat() {
    const std::uint64_t one = 1;
    while (::write(end_.get(), &one, sizeof one) < 0 && errno == EINTR) {
    }
    thread_.join();
  }
  UdpHeartbeat(const UdpHeartbeat&) = delete;
  UdpHeartbeat& operator=(const UdpHeartbeat&) = delete;

  const Key& key() const { return key_; }
  int port() const { return socket_.port(); }

  // Send beats to a process from now on, at every address that it may have.
  void add_peer(const Key& key, const std::vector<sockaddr_in>& addresses) {
    {
      const std::lock_guard lock(mutex_);
      for (const sockaddr_in& to : addresses) peers_.push_back({key, to});
    }
    beat();
  }

  // Return the seconds since a rank's last beat, or infinity before the first.
  double age(int rank) const {
    const std::int64_t last = last_heard_[static_cast<std::size_t>(rank)].load(std::memory_order_relaxed);
    if (last == 0) return std::numeric_limits<double>::infinity();
    return static_cast<double>(std::max<std::int64_t>(now() - last, 0)) * 1e-9;
  }

 private:
  struct Peer {
    Key key;
    sockaddr_in to;
  };

  static std::int64_t now() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
  }

  void run() {
    for (Clock::time_point next = Clock::now();;) {
      if (Clock::now() >= next) beat(), next = Clock::now() + period;
      if (wait_or_end(next)) return;
      receive_all();
    }
  }

  void beat() {
    const std::lock_guard lock(mutex_);
    ++number_;
    for (const Peer& other : peers_) socket_.send(Beat::create(other.key, number_, rank_), other.to);
  }

  // Wait for a datagram, the next beat or the end; return whether it is the end.
  bool wait_or_end(Clock::time_point next) const {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(next - Clock::now()).count();
    pollfd watched[2] = {{socket_.get(), POLLIN, 0}, {end_.get(), POLLIN, 0}};
    ::poll(watched, 2, static_cast<int>(std::max<std::int64_t>(left, 0)) + 1);
    return watched[1].revents != 0;
  }

  void receive_all() {
    Beat beat;
    for (bool fits; socket_.receive(beat, fits);) {
      if (!fits || beat.rank >= last_heard_.size() || beat.number <= last_number_[beat.rank] ||
          !beat.is_made_with(key_))
        continue;
      last_number_[beat.rank] = beat.number;
      last_heard_[beat.rank].store(now(), std::memory_order_relaxed);
    }
  }

  std::uint64_t rank_;
  Key key_ = random_key();
  std::vector<std::atomic<std::int64_t>> last_heard_;  // by rank, in nanoseconds of the clock; 0: never
  std::vector<std::uint64_t> last_number_;             // by rank: the number of the last beat
  Socket socket_;
  shm::File end_;
  std::mutex mutex_;  // guards the members below
  std::vector<Peer> peers_;
  std::uint64_t number_ = 0;
  std::thread thread_;
};

}  // namespace loosestep::heartbeat
