// The head: the most frequent coordinates. Every thread has a copy of them, and the copies are merged
// periodically. With frequencies as in texts, a few cache lines would otherwise move between the cores at
// every example, and two threads would be slower than one.
//   merge of thread k:  c_j <- S(c_j + s_j (p_kj - o_kj));  p_kj <- o_kj <- c_j
// c is the center, p_k the copy, o_k the center at k's last merge, S the regularizer's shrinkage. s_j is
// between the sum of changes (1, rare features) and their mean (1/n, frequent ones): see MergeWeight.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "models/linear/merge_weight.hpp"
#include "models/linear/shrink.hpp"
#include "models/threads/aligned_array.hpp"
#include "models/threads/even_split.hpp"

namespace loosestep::models {

class Head {
 public:
  // The first `free` elements are intercepts, which are not regularized.
  Head(std::size_t size, std::size_t free, int threads)
      : size_(size), free_(free), reached_(size), center_(size), locks_(new std::mutex[blocks()]) {
    for (int thread = 0; size && thread < threads; ++thread)
      copies_.push_back({AlignedArray<float>(size), AlignedArray<float>(size)});
  }

  std::size_t size() const { return size_; }
  float* center() const { return center_.data(); }
  float* copy(int thread) const { return size_ ? of(thread).values.data() : nullptr; }

  // Copy the center to all threads before any of them merges. Elements from `reached` were never updated and
  // are skipped.
  void begin(std::size_t reached) {
    reached_ = std::min(size_, reached);
    for (const Copy& copy : copies_) {
      std::copy_n(center_.data(), reached_, copy.values.data());
      std::copy_n(center_.data(), reached_, copy.last_center.data());
    }
  }

  // Merge a thread's copy block by block. Threads start at different blocks, so they do not wait for each
  // other.
  void merge(int thread, const MergeWeight& weight, const Shrink& shrink) const {
    const std::size_t first = part(blocks(), thread);
    for (std::size_t step = 0; step < blocks(); ++step) {
      const std::size_t block = (first + step) % blocks();
      const std::lock_guard lock(locks_[block]);
      merge_block(of(thread), block, weight, shrink);
    }
  }

  // Merge all copies in the order of threads, on this thread's part of the head: the same bits in every run.
  // Requires a barrier before and after.
  void fold(int thread, const MergeWeight& weight, const Shrink& shrink) const {
    for (std::size_t i = part(reached_, thread); i < part(reached_, thread + 1); ++i) {
      float change = 0;
      for (const Copy& copy : copies_) change += copy.values[i] - copy.last_center[i];
      const float sum = center_[i] + weight(i) * change;
      center_[i] = i < free_ ? sum : shrink(sum);
      for (const Copy& copy : copies_) copy.values[i] = copy.last_center[i] = center_[i];
    }
  }

 private:
  struct Copy {
    AlignedArray<float> values, last_center;
  };
  static constexpr std::size_t block_size = 4096;

  std::size_t blocks() const { return (reached_ + block_size - 1) / block_size; }
  std::size_t part(std::size_t n, int thread) const {
    return n ? split_begin(n, thread, static_cast<int>(copies_.size()))
             : 0;  // without a head there are no copies
  }
  const Copy& of(int thread) const { return copies_[std::size_t(thread)]; }

  void merge_block(const Copy& copy, std::size_t block, const MergeWeight& weight,
                   const Shrink& shrink) const {
    const std::size_t begin = block * block_size, end = std::min(reached_, begin + block_size);
    float *const c = center_.data(), *const p = copy.values.data(), *const o = copy.last_center.data();
    std::size_t i = begin;
    for (; i < std::min(end, free_); ++i) c[i] = p[i] = o[i] = c[i] + weight(i) * (p[i] - o[i]);
    for (; i < end; ++i) c[i] = p[i] = o[i] = shrink(c[i] + weight(i) * (p[i] - o[i]));
  }

  std::size_t size_, free_, reached_;

  AlignedArray<float> center_;
  std::unique_ptr<std::mutex[]> locks_;
  std::vector<Copy> copies_;
};

}  // namespace loosestep::models
