// Messages of some of the values, with their places.
#include <algorithm>
#include <atomic>
#include <functional>
#include <stdexcept>

#include "codecs/messages.hpp"
#include "codecs/packed.hpp"
#include "cpu/stream_out.hpp"
#include "cpu/threads.hpp"
#include "rules/magnitude.hpp"
#include "rules/philox.hpp"

namespace loosestep::codecs {
namespace {

constexpr size_t sampled = 1 << 14, slices = 64;
constexpr size_t grain = 8;  // chunks: their indices begin with a byte

size_t chunks_of(const Selection& of) { return (of.count + of.chunk - 1) / of.chunk; }
size_t length_of(const Selection& of, size_t c) { return std::min(of.chunk, of.count - c * of.chunk); }
size_t kept_in(const Selection& of, size_t c) {
  return (of.keep * length_of(of, c) + of.chunk - 1) / of.chunk;
}

// Return a size that a few more than `keep` values reach, as far as a sample shows.
template <class T> std::uint64_t guessed(const T* x, size_t n, size_t keep) {
  std::vector<Integer<T>> sizes(sampled);
  for (size_t i = 0; i < sampled; ++i) sizes[i] = size_of(x[i * (n / sampled)]);
  const double rank = double(keep) / double(n) * double(sampled);
  const auto last = static_cast<size_t>(rank + 4 * root(rank) + 8);
  if (last >= sampled) return 0;
  std::nth_element(sizes.begin(), sizes.begin() + static_cast<std::ptrdiff_t>(last), sizes.end(),
                   std::greater<>());
  return static_cast<std::uint64_t>(sizes[last]);
}

// Return the places of all values that reach a size, in order.
template <class T> std::vector<size_t> collected(const T* x, size_t n, Dtype dtype, std::uint64_t least) {
  std::vector<std::vector<size_t>> found(slices);
  const size_t blocks = (n + block - 1) / block;
  parallel(slices, 1, n * sizeof(T), [&](size_t begin, size_t end) {
    std::uint32_t some[block];
    for (size_t slice = begin; slice < end; ++slice)
      for (size_t b = blocks * slice / slices; b < blocks * (slice + 1) / slices; ++b) {
        const size_t at = b * block,
                     count = table().collect[dtype](x + at, std::min(block, n - at), least, some);
        for (size_t i = 0; i < count; ++i) found[slice].push_back(at + some[i]);
      }
  });
  std::vector<size_t> all;
  for (const auto& each : found) all.insert(all.end(), each.begin(), each.end());
  return all;
}

// Select of one long chunk: by a sample, those that may be among the largest, and then the largest of these.
template <class T>
bool select_long(const Values& values, const Selection& of, T* kept, unsigned char* bytes) {
  const T* const x = static_cast<const T*>(values.data);
  if (!finite(values)) return false;
  auto places = collected(x, of.count, values.dtype, guessed(x, of.count, of.keep));
  if (places.size() < of.keep) places = collected(x, of.count, values.dtype, 0);
  std::vector<Integer<T>> sizes;
  for (const size_t i : places) sizes.push_back(size_of(x[i]));
  std::nth_element(sizes.begin(), sizes.begin() + static_cast<std::ptrdiff_t>(of.keep - 1), sizes.end(),
                   std::greater<>());
  const Integer<T> least = sizes[of.keep - 1];
  auto ties = static_cast<std::ptrdiff_t>(of.keep) -
              std::count_if(sizes.begin(), sizes.begin() + static_cast<std::ptrdiff_t>(of.keep),
                            [=](auto size) { return size > least; });
  BitWriter indices(bytes);
  for (const size_t i : places) {
    if (size_of(x[i]) < least || (size_of(x[i]) == least && ties-- <= 0)) continue;
    *kept++ = x[i];
    indices.put(i, of.bits);
  }
  indices.finish();
  return true;
}

void read_indices(const unsigned char* bytes, const Selection& of, size_t c, std::vector<size_t>& found) {
  const auto bits = static_cast<size_t>(of.bits);
  found.resize(kept_in(of, c));
  unpack_at(bytes, c * of.keep * bits, (kept_of(of) * bits + 7) / 8, of.bits, found.data(), found.size());
  size_t most = 0;
  for (const size_t index : found) most = std::max(most, index);
  if (most >= length_of(of, c))
    throw std::invalid_argument("the message holds an index that is beyond its chunk");
}

// Of one long chunk: zeros first, then what was kept.
template <class T> void place_one(const T* kept, const unsigned char* bytes, const Selection& of, T* out) {
  parallel(of.count, block, of.count * sizeof(T),
           [&](size_t begin, size_t end) { std::fill(out + begin, out + end, T(0)); });
  BitReader reader(bytes);
  for (size_t i = 0; i < of.keep; ++i) {
    const size_t index = reader.get(of.bits);
    if (index >= of.count) throw std::invalid_argument("the message holds an index that is beyond its chunk");
    out[index] = kept[i];
  }
}

template <class T> void place_all(const T* kept, const unsigned char* bytes, const Selection& of, T* out) {
  if (of.chunk == of.count) return place_one(kept, bytes, of, out);
  std::atomic<bool> fine{true};
  parallel(chunks_of(of), 1, 2 * of.count * sizeof(T), [&](size_t begin, size_t end) {
    std::vector<T> made(of.chunk);
    std::vector<size_t> at;
    for (size_t c = begin; c < end && fine; ++c) {
      try {
        read_indices(bytes, of, c, at);
      } catch (const std::invalid_argument&) {
        fine = false;
        return;
      }
      const T* const mine = kept + c * of.keep;
      for (size_t i = 0; i < at.size(); ++i) made[at[i]] = mine[i];
      if (of.count * sizeof(T) >= large_from / 2)
        stream_out(out + c * of.chunk, made.data(), length_of(of, c));
      else
        std::copy_n(made.data(), length_of(of, c), out + c * of.chunk);
      for (const size_t i : at) made[i] = 0;
    }
    fence();
  });
  if (!fine) throw std::invalid_argument("the message holds an index that is beyond its chunk");
}

template <class T>
void add_all(const T* kept, const unsigned char* bytes, const Selection& of, double weight, T* out) {
  std::vector<size_t> at;
  const T factor = T(weight);
  for (size_t c = 0; c < chunks_of(of); ++c) {
    read_indices(bytes, of, c, at);
    for (size_t i = 0; i < at.size(); ++i) out[c * of.chunk + at[i]] += factor * kept[c * of.keep + i];
  }
}

}  // namespace

size_t kept_of(const Selection& of) {
  const size_t chunks = chunks_of(of);
  return chunks ? (chunks - 1) * of.keep + kept_in(of, chunks - 1) : 0;
}

bool select(const Values& x, const Selection& of, void* kept, unsigned char* indices) {
  if (of.chunk >= of.count && of.count > 4 * sampled) {
    return x.dtype == float32 ? select_long(x, of, static_cast<float*>(kept), indices)
                              : select_long(x, of, static_cast<double*>(kept), indices);
  }
  std::atomic<bool> fine{true};
  parallel(chunks_of(of), grain, 4 * x.bytes(), [&](size_t begin, size_t end) {
    if (!table().select[x.dtype](x.data, of, kept, indices, {begin, end, chunks_of(of)})) fine = false;
  });
  return fine;
}

void place(const void* kept, const unsigned char* indices, const Selection& of, const Room& out) {
  if (out.dtype == float32)
    place_all(static_cast<const float*>(kept), indices, of, static_cast<float*>(out.data));
  else
    place_all(static_cast<const double*>(kept), indices, of, static_cast<double*>(out.data));
}

void add(const void* kept, const unsigned char* indices, const Selection& of, double weight,
         const Room& out) {
  if (out.dtype == float32)
    add_all(static_cast<const float*>(kept), indices, of, weight, static_cast<float*>(out.data));
  else
    add_all(static_cast<const double*>(kept), indices, of, weight, static_cast<double*>(out.data));
}

void drawn(size_t n, size_t keep, std::uint64_t key, std::vector<size_t>& places) {
  const Key halves{static_cast<unsigned>(key), static_cast<unsigned>(key >> 32)};
  places.resize(keep);
  for (size_t j = 0; j < keep; ++j) {
    const size_t begin = j * n / keep, end = (j + 1) * n / keep;
    const Words words = philox<>({static_cast<unsigned>(j), static_cast<unsigned>(j >> 32), 1, 0}, halves);
    places[j] = begin + (static_cast<std::uint64_t>(words.a) * (end - begin) >> 32);
  }
}

}  // namespace loosestep::codecs
