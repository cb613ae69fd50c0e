// Hammers the messages of one host's processes from std::threads over one mapping: every rank has a thread
// that works and one that serves others meanwhile. tests/native/stress/sanitize.sh builds it under
// ThreadSanitizer and under AddressSanitizer with UBSan. Prints one line and returns 0, or says what was
// wrong.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "shm/mapping.hpp"
#include "shm/messages/messages.hpp"
#include "stress.hpp"

using namespace loosestep::shm;

namespace {

using Values = std::vector<double>;
constexpr std::uint8_t float64 = 12;

struct Memory : Mapping {
  explicit Memory(std::size_t bytes) : Memory(File(make_memory(bytes)), bytes) {}

 private:
  Memory(File file, std::size_t bytes) : Mapping(file.get(), bytes, "memory") {}
};

void fold(std::uint8_t, const void* const* terms, const double* weights, std::size_t count, void* out,
          std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    double sum = 0;
    for (std::size_t k = 0; k < count; ++k) sum += weights[k] * static_cast<const double*>(terms[k])[i];
    static_cast<double*>(out)[i] = sum;
  }
}

Span span(Values& values) {
  return {reinterpret_cast<std::byte*>(values.data()), values.size() * sizeof(double), values.size(),
          float64};
}

// What `from` sends to `to` in a round, as its k-th message of a tag.
double value(int from, int to, int round, int k) { return from * 1000 + to * 100 + round % 10 * 10 + k; }

void dawdle(std::mt19937& random) {
  if (random() % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 200));
}

void finish(Messages& messages, Operation& operation, std::mt19937& random) {
  for (int turn = 0; turn < 1000000; ++turn) {
    if (messages.wait(operation, loosestep::shared::deadline_after(random() % 2 ? 0.05 : 0))) return;
    messages.take_ended();
    dawdle(random);
  }
  check(false, "an operation is done");
}

std::size_t length(std::mt19937& common) {
  const auto drawn = common() % 10;
  return drawn < 6   ? common() % 40
         : drawn < 8 ? 300 + common() % 2000
                     : 65536 * (common() % 12) + common() % 9;
}

// Two messages of one tag and one of another from everybody to everybody, all begun at once, the receives of
// half of the ranks first and of the others after a while.
void exchanges(Messages& messages, int rank, int size, int round, std::mt19937& common,
               std::mt19937& random) {
  const std::size_t lengths[] = {length(common), length(common), length(common)};
  std::vector<std::unique_ptr<Values>> all;
  std::vector<Operation> operations(6);
  std::vector<std::vector<Transfer>> sends(3), receives(3);
  for (int k = 0; k < 3; ++k)
    for (int other = 0; other < size; ++other) {
      const auto at = static_cast<std::size_t>(k);
      all.push_back(std::make_unique<Values>(lengths[at], value(rank, other, round, k)));
      sends[at].push_back({other, span(*all.back())});
      all.push_back(std::make_unique<Values>(lengths[at], -1.0));
      receives[at].push_back({other, span(*all.back())});
    }
  const std::uint64_t tags[] = {7, 7, static_cast<std::uint64_t>(round)};
  const bool late = (rank + round) % 2 != 0;
  for (std::size_t k = 0; k < 3; ++k) {
    if (!late) messages.begin(operations[3 + k], {}, receives[k], tags[k], 0, false);
    messages.begin(operations[k], sends[k], {}, tags[k], rank, false);
    dawdle(random);
  }
  for (std::size_t k = 0; k < 3; ++k)
    if (late) messages.begin(operations[3 + k], {}, receives[k], tags[k], 0, false);
  for (Operation& each : operations) finish(messages, each, random);
  for (int k = 0; k < 3; ++k)
    for (int other = 0; other < size; ++other) {
      const Span& come = receives[static_cast<std::size_t>(k)][static_cast<std::size_t>(other)].content;
      const double* const values = reinterpret_cast<const double*>(come.data);
      for (std::size_t i = 0; i < come.elements; ++i)
        check(values[i] == value(other, rank, round, k), "a message", other, static_cast<long>(i));
    }
}

// A sum over this rank and its neighbours in a ring, while the same vector goes to one of them as a message.
void mix(Messages& messages, int rank, int size, int round, std::mt19937& common, std::mt19937& random) {
  const std::size_t n = length(common);
  Values x(n, rank), extra(n, rank), come(n, -1.0);
  Operation sum, sent, received;
  sum.mix = std::make_unique<Mix>();
  sum.mix->out = span(x), sum.mix->may_change = round % 2 == 0;
  double wanted = 0;
  std::vector<int> readers;
  for (int other = 0; other < size; ++other) {
    const bool near = (other + 1) % size == rank || (rank + 1) % size == other;
    if (other != rank && !near) continue;
    sum.mix->sources.push_back({other, {}, 0, {}}), sum.mix->weights.push_back(other + 1);
    wanted += (other + 1) * other;
    if (other != rank) readers.push_back(other);
  }
  const Transfer out{(rank + 1) % size, span(extra)}, in{(rank + size - 1) % size, span(come)};
  messages.begin_mix(sum, readers, 5, false);
  dawdle(random);
  messages.begin(sent, {&out, 1}, {}, 6, 0, false);
  messages.begin(received, {}, {&in, 1}, 6, 0, false);
  if (round % 3 == 0) finish(messages, received, random);
  messages.let_change(sum);
  finish(messages, sum, random);
  finish(messages, received, random);
  finish(messages, sent, random);
  for (std::size_t i = 0; i < n; ++i) check(x[i] == wanted, "a sum", rank, static_cast<long>(i));
  for (std::size_t i = 0; i < n; ++i) check(come[i] == in.rank, "a message beside a sum", rank);
}

void rounds(int size, int count, bool pulls) {
  const Memory memory(MessageMemory::bytes(size));
  std::vector<std::unique_ptr<Messages>> all;
  std::vector<int> numbers;
  for (int rank = 0; rank < size; ++rank) numbers.push_back(rank);
  for (int rank = 0; rank < size; ++rank)
    all.push_back(std::make_unique<Messages>(memory.memory(), numbers, rank, rank == 0, fold, pulls));
  std::atomic<int> at_work{size};
  on_threads(2 * size, [&](int thread) {
    const int rank = thread / 2;
    Messages& messages = *all[static_cast<std::size_t>(rank)];
    if (thread % 2 != 0) {
      while (at_work.load() > 0) {
        if (messages.has_work()) messages.serve();
        std::this_thread::sleep_for(std::chrono::microseconds(300));
      }
      return;
    }
    std::mt19937 random(static_cast<unsigned>(rank)), common(7);
    for (int round = 0; round < count; ++round) {
      exchanges(messages, rank, size, round, common, random);
      mix(messages, rank, size, round, common, random);
    }
    at_work.fetch_sub(1);
  });
  for (const auto& each : all)
    check(each->sent() >= each->received() / 2 && each->sent() > 0, "all is counted");
}

// Short messages to a rank that takes none wait for it, in order, and hold nobody up.
void backlog() {
  const Memory memory(MessageMemory::bytes(2));
  Messages sender(memory.memory(), {0, 1}, 0, true, fold), receiver(memory.memory(), {0, 1}, 1, false, fold);
  std::vector<Operation> sent(100);
  for (int k = 0; k < 100; ++k) {
    Values x(3, k);
    const Transfer out{1, span(x)};
    check(sender.begin(sent[static_cast<std::size_t>(k)], {&out, 1}, {}, 4, 0, false),
          "short ones are copied", k);
  }
  for (int k = 0; k < 100; ++k) {
    Values come(3);
    Operation operation;
    const Transfer in{0, span(come)};
    receiver.begin(operation, {}, {&in, 1}, 4, 0, false);
    for (int turn = 0; operation.left > 0 && turn < 100; ++turn) sender.serve(), receiver.serve();
    check(operation.left == 0 && come[2] == k, "in order", k);
  }
}

void mismatch() {
  const Memory memory(MessageMemory::bytes(2));
  Messages sender(memory.memory(), {3, 8}, 0, true, fold), receiver(memory.memory(), {3, 8}, 1, false, fold);
  Values x(300000), y(5);
  Operation sent, received;
  const Transfer out{1, span(x)}, in{0, span(y)};
  sender.begin(sent, {&out, 1}, {}, 4, 0, false);
  bool thrown = false;
  try {
    receiver.begin(received, {}, {&in, 1}, 4, 0, false);
  } catch (const loosestep::shared::Mismatch& error) {
    thrown = std::string(error.what()) ==
             "worker 3 sent 300000 float64 to worker 8, which expects 5 float64 in round 0";
  }
  check(thrown && !receiver.serve(), "a mismatch is named, and ends all");
}

}  // namespace

int main(int argc, char** argv) {
  const int scale = argc > 1 ? std::atoi(argv[1]) : 1;
  for (const bool pulls : {true, false})
    for (const int size : {1, 2, 3, 4}) rounds(size, 10 * scale, pulls);
  backlog();
  mismatch();
  std::puts("messages stress: fine");
}
