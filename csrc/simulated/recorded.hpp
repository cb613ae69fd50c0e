// What workers ask for in a run, recorded once: how long it takes depends on nothing else.
#pragma once

#include <cstdint>
#include <vector>

namespace loosestep::simulated {

enum class Kind : std::uint8_t { step, ready, exchange, all_reduce, push, fetch, sleep, start, wait, update };

// step: `count` gradient steps, the first of them number `index`.
// ready: a bucket with `value` of the gradient; with `count` 1 it begins step number `index`.
// exchange, all_reduce: those of that `index`.
// push: `value` bytes of variable `index`, of `count` / 2 values; where `count` is odd it is waited for.
// fetch: `value` bytes of variable `index`, of `count` / 2 values. sleep, update: `value` seconds.
// start: script `index` begins, and is known as `count` until its wait.
struct Op {
  Kind kind;
  std::uint32_t index, count;
  double value;
};

struct Message {
  std::uint32_t to;
  double bytes;
};

// Messages to send and ranks to receive from, as ranges of those of the program.
struct Exchange {
  std::uint64_t tag;
  std::uint32_t first_send, last_send, first_receive, last_receive;
};

// An allreduce as messages: whole vectors, or chunks in two phases; those of a phase at once, or each when the one
// before has come.
struct AllReduce {
  std::uint64_t elements;
  std::uint32_t itemsize;
  bool whole, at_once;
  std::uint32_t group = 0;  // of Recorded::groups
};

// What one worker, or each of several, asks for.
struct Program {
  std::vector<std::vector<Op>> scripts;  // the first is the worker's own
  std::vector<Message> sends;
  std::vector<std::uint32_t> receives;
  std::vector<Exchange> exchanges;
  std::vector<AllReduce> reductions;
};

struct Recorded {
  std::vector<Program> programs;
  std::vector<std::uint32_t> program_of;  // by worker
  std::vector<std::vector<std::uint32_t>> groups;  // of workers, each in rank order
  bool sharded = false;  // each worker keeps a shard of every shared variable; else a center has them
};

}  // namespace loosestep::simulated
