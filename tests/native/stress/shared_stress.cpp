// Hammers Team and Center from std::threads and checks every result; tests/native/stress/sanitize.sh builds it under
// ThreadSanitizer and under AddressSanitizer with UBSan. Prints one line and returns 0, or says what was
// wrong.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cpu/kernels.hpp"
#include "shared/center.hpp"
#include "shared/team.hpp"
#include "stress.hpp"

using namespace loosestep::shared;

namespace {

void dawdle(std::mt19937& random) {
  const unsigned dice = random() % 16;
  if (dice == 0)
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 500));
  else if (dice < 4)
    std::this_thread::yield();
}

template <class T> CollectiveArgs post_of(Kind kind, std::vector<T>& buf) {
  CollectiveArgs post;
  post.kind = kind, post.size = buf.size(), post.buf = buf.data();
  post.dtype = sizeof(T) == 4 ? Dtype::float32 : Dtype::float64;
  return post;
}

void finish(Team& team, int rank, Ticket ticket) {
  const Outcome outcome = team.complete(rank, ticket, deadline_after(120));
  check(outcome == Outcome::done, "a ticket is done", rank, static_cast<long>(ticket));
}

template <class T> T value(int rank, int round, std::size_t i) {
  return static_cast<T>(rank + 1) * static_cast<T>(round % 7 + 1) + static_cast<T>(i % 5);
}

// Every round: a sum, a weighted mean, a broadcast, an all-gather and a barrier, all posted before any is
// completed.
template <class T> struct Round {
  std::vector<T> sum, mean, cast, piece, gathered;

  Round(int rank, int round, int size, std::size_t n)
      : sum(n), mean(n), cast(n), piece(n), gathered(n * static_cast<std::size_t>(size)) {
    for (std::size_t i = 0; i < n; ++i) sum[i] = mean[i] = cast[i] = piece[i] = value<T>(rank, round, i);
  }

  Ticket post(Team& team, int rank, int root) {
    team.post(rank, post_of(Kind::all_reduce, sum));
    CollectiveArgs average = post_of(Kind::all_reduce, mean);
    average.op = Op::mean, average.weight = rank;
    team.post(rank, std::move(average));
    CollectiveArgs spread = post_of(Kind::broadcast, cast);
    spread.root = root;
    team.post(rank, std::move(spread));
    CollectiveArgs gather = post_of(Kind::all_gather, piece);
    gather.other = gathered.data();
    team.post(rank, std::move(gather));
    return team.post(rank, CollectiveArgs{}).ticket;
  }

  void verify(int round, int size, int root) const {
    const std::size_t n = sum.size();
    for (std::size_t i = 0; i < n; i += 1 + n / 97) {
      T total = 0, heavy = 0, weights = 0;
      for (int r = 0; r < size; ++r) {
        total += value<T>(r, round, i);
        heavy += static_cast<T>(r) * value<T>(r, round, i);
        weights += static_cast<T>(r);
        check(gathered[static_cast<std::size_t>(r) * n + i] == value<T>(r, round, i), "all_gather", r, round);
      }
      check(sum[i] == total, "all_reduce(sum)", round, static_cast<long>(i));
      const T expected = size == 1 ? value<T>(0, round, i) : heavy / weights;
      check(mean[i] == expected, "all_reduce(mean)", round, static_cast<long>(i));
      check(cast[i] == value<T>(root, round, i), "broadcast", round, static_cast<long>(i));
    }
  }
};

template <class T> void collectives(int size, int rounds, std::size_t most) {
  Team team(size, 10);
  on_threads(size, [&](int rank) {
    std::mt19937 random(static_cast<unsigned>(rank)), common(99);
    for (int round = 0; round < rounds; ++round) {
      Round<T> work(rank, round, size, common() % 4 == 0 ? common() % most : common() % 40);
      dawdle(random);
      const Ticket last = work.post(team, rank, round % size);
      dawdle(random);
      if (random() % 2) team.complete(rank, last - random() % 5, deadline_after(0));
      finish(team, rank, last);
      work.verify(round, size, round % size);
    }
  });
}

// A directed ring: whoever is ahead must neither overwrite what its reader needs nor run out of slots.
void ring(int size, int rounds, std::size_t n) {
  Team team(size, 4);
  on_threads(size, [&](int rank) {
    std::mt19937 random(static_cast<unsigned>(rank));
    std::vector<double> buf(n, rank), scratch(n);
    std::vector<double> model(static_cast<std::size_t>(size)), next(model);
    for (int r = 0; r < size; ++r) model[static_cast<std::size_t>(r)] = r;
    for (int round = 0; round < rounds; ++round) {
      CollectiveArgs post = post_of(Kind::mix, buf);
      post.other = scratch.data();
      const int before = (rank + size - 1) % size, after = (rank + 1) % size;
      post.ranks = {rank}, post.weights = {size > 1 ? 0.75 : 1.0};
      if (size > 1) post.ranks.push_back(before), post.weights.push_back(0.25), post.readers = {after};
      dawdle(random);
      const Ticket ticket = team.post(rank, std::move(post)).ticket;
      dawdle(random);
      finish(team, rank, ticket);
      for (std::size_t r = 0; r < model.size(); ++r)
        next[r] = size > 1 ? 0.75 * model[r] + 0.25 * model[(r + model.size() - 1) % model.size()] : model[r];
      model.swap(next);
      check(buf[0] == model[static_cast<std::size_t>(rank)] && buf[n - 1] == buf[0], "ring mix", rank, round);
    }
  });
}

// Nobody reads anybody: only the window of outstanding tickets holds the fast ranks back.
void hermits(int size, int rounds) {
  Team team(size, 2);
  on_threads(size, [&](int rank) {
    std::vector<float> buf(64, 1), scratch(64);
    for (int round = 0; round < rounds; ++round) {
      CollectiveArgs post = post_of(Kind::mix, buf);
      post.other = scratch.data(), post.ranks = {rank}, post.weights = {1.0};
      const Ticket ticket = team.post(rank, std::move(post)).ticket;
      if (rank == 0 && round % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      finish(team, rank, ticket);
    }
    finish(team, rank, team.post(rank, CollectiveArgs{}).ticket);
  });
}

bool throws(Team& team, int rank, Ticket ticket) {
  try {
    team.complete(rank, ticket, deadline_after(120));
    return false;
  } catch (const Mismatch&) {
    return true;
  }
}

// One rank asks for something else: all must throw, and none may touch memory out of bounds.
void mismatches(int size, int rounds, Kind kind) {
  for (int round = 0; round < rounds; ++round) {
    Team team(size, 4);
    const int odd = round % size;
    // Made here, for a neighbour may still read a rank's buffer when that rank has thrown already.
    std::vector<std::vector<float>> bufs(static_cast<std::size_t>(size)), scratches;
    for (int rank = 0; rank < size; ++rank)
      bufs[static_cast<std::size_t>(rank)].assign(rank == odd ? 999 : 100'000, 1);
    scratches = bufs;
    on_threads(size, [&](int rank) {
      std::mt19937 random(static_cast<unsigned>(rank + round));
      auto &buf = bufs[static_cast<std::size_t>(rank)], &scratch = scratches[static_cast<std::size_t>(rank)];
      CollectiveArgs post = post_of(kind, buf);
      post.other = scratch.data();
      const int before = (rank + size - 1) % size, after = (rank + 1) % size;
      if (kind == Kind::mix) post.ranks = {rank, before}, post.weights = {0.5, 0.5}, post.readers = {after};
      finish(team, rank, team.post(rank, CollectiveArgs{}).ticket);
      dawdle(random);
      const Ticket ticket = team.post(rank, std::move(post)).ticket,
                   next = team.post(rank, CollectiveArgs{}).ticket;
      // A mix far from the odd rank may succeed; what comes after it never does.
      if (kind == Kind::mix)
        check(throws(team, rank, next), "a mismatch is thrown after a mix", rank, round);
      else
        check(throws(team, rank, ticket) && throws(team, rank, next), "a mismatch is thrown", rank, round);
    });
  }
}

// Some ranks wait for one that never comes; its abort ends them all, at any point of their work.
void aborts(int size, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    Team team(size);
    std::vector<std::vector<float>> bufs(static_cast<std::size_t>(size), std::vector<float>(200'000, 1));
    on_threads(size, [&](int rank) {
      std::mt19937 random(static_cast<unsigned>(rank + 31 * round));
      for (int step = 0;; ++step) {
        if (rank == 0 && step == round % 4)
          std::this_thread::sleep_for(std::chrono::microseconds(random() % 300));
        if (rank == 0 && step == round % 4) return team.abort();
        const Ticket ticket =
            team.post(rank, post_of(Kind::all_reduce, bufs[static_cast<std::size_t>(rank)])).ticket;
        if (team.complete(rank, ticket, deadline_after(120)) == Outcome::aborted) return;
      }
    });
  }
}

void deadlines() {
  Team team(2);
  std::vector<float> buf(10);
  const Ticket ticket = team.post(0, post_of(Kind::all_reduce, buf)).ticket;
  const auto start = Clock::now();
  check(team.complete(0, ticket, deadline_after(0.05)) == Outcome::waiting, "the time is up");
  const std::chrono::duration<double> took = Clock::now() - start;
  check(took.count() >= 0.05 && took.count() < 0.5, "the deadline is honoured",
        static_cast<long>(took.count() * 1e3));
  check(team.missing(ticket) == std::vector<int>{1}, "missing");
}

template <class T> using Over = CenterView<T, SpinLock>;

template <class T> void pull(Center<T>& center, std::vector<T>& x, int rank) {
  const std::vector<Over<T>*> alone{&center};
  apply_rule(alone, rank, [&](std::size_t begin, std::size_t end, std::uint64_t) {
    for (std::size_t i = begin; i < end; ++i) {
      const T d = T(0.5) * (x[i] - center.values()[i]);
      x[i] -= d, center.values()[i] += d;
    }
  });
}

template <class T> void push(Center<T>& center, const std::vector<T>& delta, int rank) {
  const std::vector<Over<T>*> alone{&center};
  apply_rule(alone, rank, [&](std::size_t begin, std::size_t end, std::uint64_t) {
    for (std::size_t i = begin; i < end; ++i) center.values()[i] += delta[i];
  });
}

// Two centers moved together, named in either order: nobody waits for ever, they stay equal, and every move
// of a chunk has a number of its own.
template <class T> void together(int size, int rounds, std::size_t n) {
  const std::vector<T> zeros(n);
  Center<T> one(zeros.data(), n, 4096 / sizeof(T)), other(zeros.data(), n, 4096 / sizeof(T));
  on_threads(size, [&](int rank) {
    const std::vector<Over<T>*> order =
        rank % 2 ? std::vector<Over<T>*>{&one, &other} : std::vector<Over<T>*>{&other, &one};
    for (int round = 0; round < rounds; ++round)
      apply_rule(order, rank, [&](std::size_t begin, std::size_t end, std::uint64_t moves) {
        for (std::size_t i = begin; i < end; ++i) {
          check(one.values()[i] == other.values()[i], "centers that are moved together",
                static_cast<long>(i));
          one.values()[i] += 1, other.values()[i] += 1;
          check(one.values()[i] == static_cast<T>(moves), "moves are numbered", static_cast<long>(i));
        }
      });
  });
  check(one.version() == static_cast<std::uint64_t>(size * rounds), "version of both");
  check(other.version() == one.version(), "version of both");
}

template <class T> void center(int size, int rounds, std::size_t n) {
  const std::vector<T> zeros(n);
  Center<T> shared(zeros.data(), n, 4096 / sizeof(T));
  std::vector<std::vector<T>> xs(static_cast<std::size_t>(size), std::vector<T>(n, 1024));
  on_threads(size, [&](int rank) {
    std::vector<T>& x = xs[static_cast<std::size_t>(rank)];
    std::vector<T> ones(n, 1), seen(n);
    for (int round = 0; round < rounds; ++round) {
      if (round < 3) pull(shared, x, rank);  // exact: 1024 is halved a few times
      push(shared, ones, rank);
      shared.fetch(seen.data(), rank);
      for (std::size_t i = 0; i < n; ++i) x[i] -= 1;
    }
  });
  std::vector<T> c(n);
  const auto version = shared.fetch(c.data(), 0);
  const auto moves = static_cast<std::uint64_t>(size * (rounds + std::min(rounds, 3)));
  check(version == moves, "version", static_cast<long>(version));
  for (std::size_t i = 0; i < n; ++i) {
    double sum = static_cast<double>(c[i]);
    for (const auto& x : xs) sum += static_cast<double>(x[i]);
    const double rounding = sizeof(T) == 4 ? 0.01 : 1e-9;
    check(std::abs(sum - 1024.0 * size) <= rounding, "c + sum of x is conserved", static_cast<long>(i));
  }
}

template <class T> std::vector<T> moved(const loosestep::Updates& form, int size, int rounds, std::size_t n) {
  std::vector<T> x(n), v(n);
  const std::vector<T> ones(n, T(1));
  const double scalars[] = {1, 1};
  const auto momentum =
      form.rules[2][sizeof(T) == 4 ? loosestep::float32 : loosestep::float64];  // of `Shared`
  on_threads(size, [&](int) {
    void* const buffers[] = {x.data(), v.data(), const_cast<T*>(ones.data())};
    for (int round = 0; round < rounds; ++round) momentum(scalars, buffers, 0, n, false);
  });
  return v;
}

template <class T> void shared_moments(int size, int rounds, std::size_t n) {
  const T all = T(-size * rounds);
  for (const T v : moved<T>(loosestep::exact, size, rounds, n))
    check(v == all, "exact adds to moments lose nothing", static_cast<long>(v));
  for (const T v : moved<T>(loosestep::racy, size, rounds, n))
    check(v < 0 && v >= all, "racy ones may", static_cast<long>(v));
}

}  // namespace

int main(int argc, char** argv) {
  const int scale = argc > 1 ? std::atoi(argv[1]) : 1;
  for (const int size : {1, 2, 3, 4, 8}) {
    collectives<float>(size, 200 * scale, 100'000);
    collectives<double>(size, 100 * scale, 50'000);
    ring(size, 300 * scale, 40'000 / static_cast<std::size_t>(size));
    ring(size, 1000 * scale, 3);
    hermits(size, 200 * scale);
    center<float>(size, 40 * scale, 20'001);
    center<double>(size, 40 * scale, 1);
    together<float>(size, 40 * scale, 20'001);
    shared_moments<float>(size, 100 * scale, 1001);
    shared_moments<double>(size, 100 * scale, 7);
  }
  for (const int size : {2, 3, 5}) {
    mismatches(size, 20 * scale, Kind::all_reduce);
    mismatches(size, 20 * scale, Kind::mix);
    aborts(size, 40 * scale);
  }
  deadlines();
  std::puts("shared_stress: all checks passed");
}
