// The sign of life of a process for those of other hosts: a thread that knows no Python sends a datagram to
// each of them twice a second, and notes theirs. It goes on while the process is in a long computation and
// stops when the process is stopped, killed or cut off. Nothing else passes here, so a lost datagram does no
// harm. A beat has a number that only grows and a checksum under its receiver's key: who listens on the
// network learns neither the key nor a beat that would be heard twice.
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

// Known to the processes of one run alone: whoever else sends something here is not heard.
inline Key random_key() {
  std::random_device source;
  const auto word = [&source] { return std::uint64_t(source()) << 32 | source(); };
  return {word(), word()};
}

struct Beat {
  std::uint64_t number;  // of those of its sender, from 1
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

  // `local`: all are on this machine, so that nobody else needs to reach it.
  UdpHeartbeat(int size, int rank, bool local)
      : rank_(static_cast<std::uint64_t>(rank)),
        last_heard_(static_cast<std::size_t>(size)),
        last_number_(static_cast<std::size_t>(size)),
        socket_(local ? "127.0.0.1" : "0.0.0.0"),
        end_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (end_.get() < 0) shm::fail(errno, "no event for the heartbeat between hosts");
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

  // From now on that process is told, at every address that may be its.
  void add_peer(const Key& key, const std::vector<sockaddr_in>& addresses) {
    {
      const std::lock_guard lock(mutex_);
      for (const sockaddr_in& to : addresses) peers_.push_back({key, to});
    }
    beat();
  }

  // Seconds since a rank's last beat; infinity where none has come.
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

  // Sleeps until something comes or the next beat is due.
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
  std::vector<std::atomic<std::int64_t>> last_heard_;  // nanoseconds of the clock; 0: never
  std::vector<std::uint64_t> last_number_;             // the number of each one's last beat
  Socket socket_;
  shm::File end_;
  std::mutex mutex_;  // guards what follows
  std::vector<Peer> peers_;
  std::uint64_t number_ = 0;
  std::thread thread_;
};

}  // namespace loosestep::heartbeat
