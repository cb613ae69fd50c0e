// Hammers Ranks, Started, Note and the center of processes from std::threads over one mapping;
// tests/native/stress/sanitize.sh builds it under ThreadSanitizer and under AddressSanitizer with UBSan.
// Prints one line and returns 0, or says what was wrong.
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "heartbeat/shm_heartbeat.hpp"
#include "shm/arena.hpp"
#include "shm/background_queue.hpp"
#include "shm/center.hpp"
#include "shm/collectives.hpp"
#include "shm/mapping.hpp"
#include "shm/streaming_stores.hpp"
#include "stress.hpp"

using namespace loosestep::shm;
using loosestep::shared::deadline_after;
using loosestep::shared::Dtype;
using loosestep::shared::Op;

namespace {

struct Memory : Mapping {
  explicit Memory(std::size_t bytes) : Memory(File(make_memory(bytes)), bytes) {}

 private:
  Memory(File file, std::size_t bytes) : Mapping(file.get(), bytes, "memory") {}
};

void dawdle(std::mt19937& random) {
  if (random() % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 300));
}

// In pieces of time, as a caller that looks at the others between does it.
void finish(Collectives& collectives, const CollectiveArgs& args, std::mt19937& random) {
  Outcome outcome = Outcome::waiting;
  for (int turn = 0; outcome == Outcome::waiting && turn < 1000000; ++turn) {
    outcome = collectives.run(args, deadline_after(random() % 2 ? 0.05 : 0));
    dawdle(random);
  }
  check(outcome == Outcome::done, "a call is done");
}

CollectiveArgs post_of(Kind kind, std::vector<double>& buf) {
  CollectiveArgs args;
  args.kind = kind, args.size = buf.size(), args.buf = buf.data(), args.dtype = Dtype::float64;
  return args;
}

// A sum of whole numbers, a broadcast and a gather of what came out, then a barrier.
void round_of(Collectives& collectives, int rank, int size, int round, std::size_t n, std::mt19937& random) {
  std::vector<double> x(n), all(n * static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < n; ++i) x[i] = rank + round + static_cast<double>(i % 7);
  finish(collectives, post_of(Kind::all_reduce, x), random);
  const double base = size * (size - 1) / 2.0 + size * round;
  for (std::size_t i = 0; i < n; ++i)
    check(x[i] == base + size * static_cast<double>(i % 7), "a sum", round, static_cast<long>(i));
  if (n > 0) x[0] = rank;
  CollectiveArgs gather = post_of(Kind::all_gather, x), cast = post_of(Kind::broadcast, x);
  gather.other = all.data();
  finish(collectives, gather, random);
  for (int r = 0; n > 0 && r < size; ++r)
    check(all[static_cast<std::size_t>(r) * n] == r, "a gather", r, round);
  cast.root = round % size;
  finish(collectives, cast, random);
  check(n == 0 || x[0] == round % size, "a broadcast", round);
  finish(collectives, CollectiveArgs{}, random);
}

std::vector<std::unique_ptr<Collectives>> all_collectives(const Memory& memory, int size) {
  std::vector<std::unique_ptr<Collectives>> all;
  for (int rank = 0; rank < size; ++rank)
    all.push_back(std::make_unique<Collectives>(memory.memory(), size, rank, rank == 0));
  return all;
}

void collectives(int size, int rounds) {
  const Memory memory(Layout::bytes(size));
  const auto all = all_collectives(memory, size);
  on_threads(size, [&](int rank) {
    Collectives& collectives = *all[static_cast<std::size_t>(rank)];
    const ShmHeartbeat heartbeat(collectives.mine());
    std::mt19937 random(static_cast<unsigned>(rank)), common(7);
    for (int round = 0; round < rounds; ++round) {
      const std::size_t n = common() % 8 == 0 ? common() % 200000 : common() % 50;
      collectives.mine().status.write(round % 2 ? "odd" : "even");
      round_of(collectives, rank, size, round, n, random);
      const std::string text = collectives.record((rank + 1) % size).status.read();
      check(text.empty() || text == "odd" || text == "even", "a note is whole");
      check(beat_age(collectives.record(rank)) < 60, "a rank lives", rank);
    }
  });
}

// Several sums under way on every rank, waited for early or late, in the order of their start or not.
void started(int size, int rounds) {
  const Memory memory(Layout::bytes(size));
  const auto all = all_collectives(memory, size);
  on_threads(size, [&](int rank) {
    BackgroundQueue lane(*all[static_cast<std::size_t>(rank)]);
    std::mt19937 random(static_cast<unsigned>(rank)), common(11);
    for (int round = 0; round < rounds; ++round) {
      std::vector<std::vector<double>> xs;
      std::vector<BackgroundQueue::Number> numbers;
      for (int k = 0; k < 3; ++k) {
        xs.emplace_back(common() % 8 == 0 ? common() % 200000 : common() % 50, rank + k);
        numbers.push_back(lane.start(post_of(Kind::all_reduce, xs.back())));
        dawdle(random);
      }
      for (std::size_t turn = 0; turn < 3; ++turn) {
        const std::size_t k = (turn + static_cast<std::size_t>(round)) % 3;
        while (lane.wait(numbers[k], deadline_after(random() % 2 ? 60 : 0)) != Outcome::done) dawdle(random);
        for (const double x : xs[k])
          check(x == size * (size - 1) / 2.0 + size * static_cast<double>(k), "a started sum", rank, round);
      }
    }
  });
}

// Sums of vectors in an arena, begun and waited for; every third one has a rank whose vector is elsewhere.
void in_place(int size, int rounds) {
  const Memory memory(Layout::bytes(size));
  const File shares(Arena::make(size));
  const auto all = all_collectives(memory, size);
  on_threads(size, [&](int rank) {
    const auto arena = std::make_shared<Arena>(File(::dup(shares.get())), size, rank);
    BackgroundQueue lane(*all[static_cast<std::size_t>(rank)]);
    lane.use(arena, Forms::checked(64, {{0, 65536}}, rank % 2 == 0));
    std::mt19937 random(static_cast<unsigned>(rank)), common(5);
    for (int round = 0; round < rounds; ++round) {
      const std::size_t n = common() % 4 == 0 ? common() % 300000 : common() % 50;
      std::vector<double> elsewhere(n);
      std::byte* const there = arena->allocate(n * sizeof(double));
      check(there != nullptr, "there is room");
      const bool away = round % 3 == 0 && rank == round % size;
      double* const x = away ? elsewhere.data() : reinterpret_cast<double*>(there);
      for (std::size_t i = 0; i < n; ++i) x[i] = rank + static_cast<double>(i % 7);
      CollectiveArgs args = post_of(Kind::all_reduce, elsewhere);
      args.buf = x;
      const BackgroundQueue::Number number = lane.start(args);
      dawdle(random);
      while (lane.wait(number, deadline_after(random() % 2 ? 60 : 0)) != Outcome::done) dawdle(random);
      for (std::size_t i = 0; i < n; ++i)
        check(x[i] == size * (size - 1) / 2.0 + size * static_cast<double>(i % 7), "a sum in place", rank,
              round);
      if (round + 1 == rounds) arena->close();
      arena->release(there);
    }
  });
}

void started_ones_abort(int size) {
  const Memory memory(Layout::bytes(size));
  const auto all = all_collectives(memory, size);
  on_threads(size, [&](int rank) {
    Collectives& collectives = *all[static_cast<std::size_t>(rank)];
    if (rank == 0) return collectives.abort();
    BackgroundQueue lane(collectives);
    check(lane.wait(lane.start(CollectiveArgs{}), deadline_after(60)) == Outcome::aborted,
          "a started one ends", rank);
  });
}

void aborts(int size, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    const Memory memory(Layout::bytes(size));
    const auto all = all_collectives(memory, size);
    on_threads(size, [&](int rank) {
      Collectives& collectives = *all[static_cast<std::size_t>(rank)];
      if (rank == 0) return collectives.abort();
      check(collectives.run(CollectiveArgs{}, deadline_after(60)) == Outcome::aborted, "an abort arrives",
            rank, round);
    });
  }
}

void mismatches(int size) {
  const Memory memory(Layout::bytes(size));
  std::vector<std::unique_ptr<Collectives>> all;
  for (int rank = 0; rank < size; ++rank)
    all.push_back(std::make_unique<Collectives>(memory.memory(), size, rank, rank == 0));
  on_threads(size, [&](int rank) {
    std::vector<double> x(rank == 1 ? 300000 : 5);
    bool thrown = false;
    try {
      all[static_cast<std::size_t>(rank)]->run(post_of(Kind::all_reduce, x), deadline_after(60));
    } catch (const Mismatch&) {
      thrown = true;
    }
    check(thrown, "a mismatch is everybody's", rank);
  });
}

// How many of the next `pieces` rank 0 has put out by streaming, where a byte costs these two.
int streamed(StoreChoices& stores, int size, int pieces, double ordinary, double streaming) {
  int count = 0;
  for (int piece = 0; piece < pieces; ++piece) {
    const bool streams = StoreChoices::streams(stores.bits(), size);
    stores.record(size, streams, streams ? streaming : ordinary);
    count += streams;
  }
  return count;
}

// The cheaper kind is found and followed when it changes; the other one is tried for few pieces; a size
// learns nothing from another's.
void choices() {
  StoreChoices stores;
  check(streamed(stores, 5, 1000, 1.0, 2.0) < 40, "ordinary stores are found");
  check(streamed(stores, 5, 1000, 6.0, 2.0) > 700, "distant cores are found");
  check(streamed(stores, 5, 10000, 2.0, 1.9) > 9700, "a small gain changes nothing");
  check(streamed(stores, 7, 1, 1.0, 2.0) == 1 && StoreChoices::class_of(32) == 5 &&
            StoreChoices::class_of(0) == 0 && StoreChoices::class_of(1000) == 7,
        "sizes are apart");
}

void centers(int size, int rounds, std::size_t n) {
  const Memory memory(Center<double>::bytes(n));
  Center<double> made = Center<double>::create(memory.memory(), n, nullptr);
  on_threads(size, [&](int rank) {
    Center<double> center = Center<double>::attach(memory.memory(), n);
    const std::vector<double> one(n, 1.0);
    const std::vector<loosestep::shared::CenterView<double, RobustLock>*> alone{&center};
    const auto add = [&](std::size_t begin, std::size_t end, std::uint64_t) {
      for (std::size_t i = begin; i < end; ++i) center.values()[i] += one[i];
    };
    for (int round = 0; round < rounds; ++round)
      loosestep::shared::apply_rule(alone, rank, add, deadline_after(60));
  });
  std::vector<double> out(n);
  made.fetch(out.data(), 0, deadline_after(60));
  for (const double value : out)
    check(value == size * rounds, "no addition is lost", static_cast<long>(value));
}

}  // namespace

int main(int argc, char** argv) {
  const int scale = argc > 1 ? std::atoi(argv[1]) : 1;
  for (const int size : {1, 2, 3, 5}) collectives(size, 60 * scale);
  for (const int size : {1, 2, 3}) started(size, 60 * scale);
  for (const int size : {2, 3}) in_place(size, 60 * scale);
  started_ones_abort(3);
  aborts(4, 20 * scale);
  mismatches(3);
  choices();
  centers(3, 50 * scale, 10000);
  std::puts("host stress: fine");
}
