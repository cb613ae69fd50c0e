// One ticket of a team: the arguments of every rank, and the work of the collective, divided into chunks.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "shared/collective_args.hpp"
#include "shared/reduce_loops.hpp"
#include "shared/reduction.hpp"

namespace loosestep::shared {

using Ticket = std::uint64_t;

// Elements of a chunk: so many that claiming one costs nothing in comparison, few enough that threads which
// join late still find work.
inline constexpr std::size_t chunk_size = 32 * 1024;

inline std::size_t chunks_of(std::size_t size) { return (size + chunk_size - 1) / chunk_size; }

// The progress of one rank's mix; only the thread of that rank uses it.
struct MixProgress {
  std::size_t admitted = 0;  // sources whose arguments were checked
  std::size_t computed = 0;  // elements in the workspace
  bool announced = false;    // told the others that they may overwrite their buffers
  std::size_t awaited = 0;   // readers that have finished
  std::size_t copied = 0;    // elements copied back to buf
  std::vector<void*> sources;
};

class Slot {
 public:
  explicit Slot(int size)
      : all_args(size),
        mixes(size),
        has_read(std::make_unique<std::atomic<Ticket>[]>(size)),
        buffers_(size),
        weights_(size) {}

  // The counters hold ticket + 1; 0 means "none".
  alignas(64) std::atomic<Ticket> armed{0};  // every rank has posted, and they agree
  std::atomic<Ticket> finished{0};           // every chunk is done
  std::atomic<int> arrivals{0};
  std::vector<CollectiveArgs> all_args;             // by rank
  std::vector<MixProgress> mixes;                   // by rank
  std::unique_ptr<std::atomic<Ticket>[]> has_read;  // by rank: its mix has read the other buffers

  void enter(int rank, CollectiveArgs what) {
    if (what.kind == Kind::mix) {
      MixProgress& mix = mixes[rank];
      mix.admitted = mix.computed = mix.awaited = mix.copied = 0;
      mix.announced = false;
      mix.sources.resize(what.ranks.size());
    }
    all_args[rank] = std::move(what);
  }

  // Called by the last rank to post, before it publishes `armed`.
  void prepare() {
    const CollectiveArgs& first = all_args.front();
    for (std::size_t k = 0; k < all_args.size(); ++k) {
      buffers_[k] = all_args[k].buf;
      weights_[k] = all_args[k].weight;
    }
    chunks_ = work_chunks(first);
    next_.store(0, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
  }

  // Do all the work if it is small; return whether it was. Waking a helper costs more than a few thousand
  // additions.
  bool work_if_small() {
    if (chunks_ * all_args.front().size > 4096) return false;
    while (has_unclaimed()) help();
    return true;
  }

  bool has_unclaimed() const { return next_.load(std::memory_order_relaxed) < chunks_; }

  // Claim and do one chunk; return whether it was the last one to be finished.
  bool help() {
    const std::size_t chunk = next_.fetch_add(1, std::memory_order_relaxed);
    if (chunk >= chunks_) return false;
    work(chunk);
    return done_.fetch_add(1, std::memory_order_acq_rel) + 1 == chunks_;
  }

  // Compute one chunk of this rank's mix in its workspace.
  void mix_compute(int rank) {
    if (all_args[rank].dtype == Dtype::float32)
      mix_compute_as<float>(rank);
    else
      mix_compute_as<double>(rank);
  }

  // Copy one chunk of the workspace to this rank's buffer.
  void mix_copy(int rank) {
    const CollectiveArgs& args = all_args[rank];
    MixProgress& mix = mixes[rank];
    const std::size_t width = bytes_of(args.dtype), n = std::min(chunk_size, args.size - mix.copied);
    const std::size_t from = mix.copied * width;
    std::memcpy(static_cast<std::byte*>(args.buf) + from, static_cast<const std::byte*>(args.other) + from,
                n * width);
    mix.copied += n;
  }

 private:
  template <class T> void mix_compute_as(int rank) {
    const CollectiveArgs& args = all_args[rank];
    MixProgress& mix = mixes[rank];
    const std::size_t end = std::min(mix.computed + chunk_size, args.size);
    for (std::size_t n; mix.computed < end; mix.computed += n) {
      n = std::min(tile, end - mix.computed);
      weighted_sum(static_cast<T*>(args.other) + mix.computed, mix.sources, args.weights, mix.computed, n);
    }
  }

  std::size_t work_chunks(const CollectiveArgs& first) const {
    const std::size_t chunks = chunks_of(first.size);
    if (all_args.size() == 1 && first.kind != Kind::all_gather) return 0;  // a single rank has its own result
    switch (first.kind) {
      case Kind::all_reduce:
        return all_weights_zero() ? 0 : chunks;
      case Kind::broadcast:
        return chunks;
      case Kind::all_gather:
        return chunks * all_args.size();
      default:
        return 0;
    }
  }

  void work(std::size_t chunk) {
    if (all_args.front().dtype == Dtype::float32)
      work_as<float>(chunk);
    else
      work_as<double>(chunk);
  }

  template <class T> void work_as(std::size_t chunk) {
    if (all_args.front().kind == Kind::all_gather) return gather<T>(chunk);
    const std::size_t begin = chunk * chunk_size, end = std::min(begin + chunk_size, all_args.front().size);
    if (all_args.front().kind == Kind::broadcast) return broadcast<T>(begin, end);
    reduce<T>(begin, end);
  }

  template <class T> void reduce(std::size_t begin, std::size_t end) {
    const Reduction<T> reduction(all_args.front().op, weights_);
    reduce_tiles<T>(buffers_, begin, end,
                    [&](T* acc, std::size_t from, std::size_t n) { reduction(acc, buffers_, from, n); });
  }

  template <class T> void broadcast(std::size_t begin, std::size_t end) {
    const T* from = at<T>(buffers_, static_cast<std::size_t>(all_args.front().root), begin);
    for (std::size_t k = 0; k < buffers_.size(); ++k) copy(at<T>(buffers_, k, begin), from, end - begin);
  }

  template <class T> void gather(std::size_t chunk) {
    const std::size_t size = all_args.front().size, per_rank = chunks_of(size), rank = chunk / per_rank;
    const std::size_t begin = chunk % per_rank * chunk_size, n = std::min(chunk_size, size - begin);
    const T* piece = at<T>(buffers_, rank, begin);
    for (const CollectiveArgs& args : all_args)
      copy(static_cast<T*>(args.other) + rank * size + begin, piece, n);
  }

  bool all_weights_zero() const {
    const bool wide = all_args.front().dtype == Dtype::float64;
    return wide ? Reduction<double>::all_weights_zero(weights_)
                : Reduction<float>::all_weights_zero(weights_);
  }

  std::vector<void*> buffers_;
  std::vector<double> weights_;
  std::size_t chunks_ = 0;
  alignas(64) std::atomic<std::size_t> next_{0};
  alignas(64) std::atomic<std::size_t> done_{0};
};

}  // namespace loosestep::shared
