// Causal attention over sequences that lie one behind the other, with norms of queries and keys, rotation, a sliding
// window, a soft cap, and keys taken over from the sequence before. Scores are never written out as a whole.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "norm.h"
#include "product.h"

namespace tiebreak {

struct Heads {
  int64_t heads, groups, size;          // query heads, key heads, numbers a head; a row of qkv is heads + 2 x groups heads
  float scale, softcap;                 // softcap 0: none
  int64_t window;                       // 0: none; else a query sees this many keys, itself included
  const float *query_norm, *key_norm;   // or null
  float eps;
};

constexpr int kPositions = 2 * kRows;  // positions of queries that a thread takes at a time
constexpr int kKeys = 256;             // keys between two rescalings of the running sums
constexpr int kWidest = 512;           // numbers a head at most

// One head of one position: norm, then rotation by (cosine, sine), whose halves the families repeat.
template <class D>
inline void turn(const typename D::Value* x, const typename D::Value* cosine, const typename D::Value* sine, const float* norm,
                 float eps, int64_t size, typename D::Value* out) {
  typename D::Value normed[kWidest];
  if (norm) {
    rms_norm_row<D>(x, norm, size, eps, normed);
    x = normed;
  }
  const int64_t half = size / 2;
  for (int64_t k = 0; k < half; k += kLanes) {
    const __mmask16 mask = tail(half - k);
    const __m512 a = D::load(x + k, mask), b = D::load(x + half + k, mask);
    const __m512 first = _mm512_mul_ps(a, D::load(cosine + k, mask));
    const __m512 second = _mm512_mul_ps(b, D::load(cosine + half + k, mask));
    D::store(out + k, _mm512_fnmadd_ps(b, D::load(sine + k, mask), first), mask);
    D::store(out + half + k, _mm512_fmadd_ps(a, D::load(sine + half + k, mask), second), mask);
  }
}

inline int64_t rounded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Where a sequence's tokens lie. It may take its first keys from the sequence before it (`reused` of them): then its
// own tokens continue the positions behind those.
struct Segment {
  int64_t begin, count;     // rows of its own tokens
  int64_t before, reused;   // rows of the keys that it takes over
  int64_t keys() const { return reused + count; }
  int64_t row(int64_t key) const { return key < reused ? before + key : begin + key - reused; }
};

template <class V>
struct Batch {
  const V* qkv;
  int64_t stride;
  const V *cosine, *sine;  // a row a token, `size` numbers
  V* out;
  int64_t out_stride;
};

// Keys of one segment and group as panels of 32 keys, words along the head; values as panels of 32 numbers of the
// head, words along the keys. Places behind the last key hold zeros.
template <class D>
void pack_keys(const Batch<typename D::Value>& batch, const Segment& s, int64_t group, const Heads& h,
               typename D::Value* packed_keys, typename D::Value* packed_values) {
  using V = typename D::Value;
  constexpr int P = D::kPerWord;
  const int64_t places = rounded(s.keys(), kPanel), words = h.size / P, wide = rounded(h.size, kPanel);
  alignas(64) V row[kWidest];
  for (int64_t n = 0; n < places; ++n) {
    if (n < s.keys()) {
      const int64_t at = s.row(n);
      turn<D>(batch.qkv + at * batch.stride + (h.heads + group) * h.size, batch.cosine + at * h.size, batch.sine + at * h.size,
              h.key_norm, h.eps, h.size, row);
    } else {
      std::memset(row, 0, sizeof(V) * h.size);
    }
    uint32_t* to = (uint32_t*)(packed_keys + n / kPanel * kPanel * h.size) + n % kPanel;
    for (int64_t w = 0; w < words; ++w) std::memcpy(to + w * kPanel, row + w * P, 4);
  }
  const V nothing[kWidest] = {};
  const int64_t rows = places / P;  // words along the keys
  for (int64_t w = 0; w < rows; ++w) {
    const V* from[P];
    for (int p = 0; p < P; ++p) {
      const int64_t n = w * P + p;
      from[p] = n < s.keys() ? batch.qkv + s.row(n) * batch.stride + (h.heads + h.groups + group) * h.size : nothing;
    }
    for (int64_t c = 0; c < wide; c += kPanel) {
      V* to = packed_values + (c / kPanel * rows + w) * kPanel * P;
      const int64_t width = std::min<int64_t>(kPanel, h.size - c);
      if (width < kPanel) std::memset(to, 0, sizeof(V) * kPanel * P);
      for (int64_t k = 0; k < width; ++k)
        for (int p = 0; p < P; ++p) to[k * P + p] = from[p][c + k];
    }
  }
}

template <class V>
struct Place {  // what a thread needs for its tile of queries
  alignas(64) float scores[kPositions][kKeys];
  alignas(64) V weights[kPositions][kKeys];
  alignas(64) V query[kPositions * kWidest];
  alignas(64) float sums[kPositions * kWidest];
  float most[kPositions], total[kPositions];
};

// Scores of one row against keys [first, first + width) become weights; the running maximum and sum follow.
template <class D>
inline void soften(Place<typename D::Value>& p, int r, int64_t position, int64_t first, int64_t width, const Heads& h) {
  float* scores = p.scores[r];
  const int64_t low = h.window > 0 ? std::max<int64_t>(0, position - h.window + 1) : 0, wide = rounded(h.size, kPanel);
  const __m512 scale = _mm512_set1_ps(h.softcap > 0 ? h.scale / h.softcap : h.scale);
  const __m512 below = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  const bool inside = first >= low && first + width - 1 <= position;
  __m512 top = below;
  for (int64_t c = 0; c < width; c += kLanes) {
    __m512 s = _mm512_mul_ps(_mm512_load_ps(scores + c), scale);
    if (h.softcap > 0) s = _mm512_mul_ps(_mm512_set1_ps(h.softcap), hyperbolic_tangent(s));
    if (!inside) s = _mm512_mask_mov_ps(below, tail(position - first - c + 1) & (__mmask16)~tail(low - first - c), s);
    _mm512_store_ps(scores + c, s);
    top = _mm512_max_ps(top, s);
  }
  const float most = std::max(p.most[r], _mm512_reduce_max_ps(top));
  if (most == -std::numeric_limits<float>::infinity()) {  // the window begins behind these keys
    std::memset(p.weights[r], 0, sizeof(p.weights[r]));
    return;
  }
  const __m512 m = _mm512_set1_ps(most);
  __m512 sum = _mm512_setzero_ps();
  for (int64_t c = 0; c < width; c += kLanes) {
    const __m512 e = exponential(_mm512_sub_ps(_mm512_load_ps(scores + c), m));
    sum = _mm512_add_ps(sum, e);
    D::store(p.weights[r] + c, e);
  }
  if (most > p.most[r]) {
    const float factor = std::exp(p.most[r] - most);
    const __m512 f = _mm512_set1_ps(factor);
    float* sums = p.sums + r * wide;
    for (int64_t c = 0; c < wide; c += kLanes) _mm512_store_ps(sums + c, _mm512_mul_ps(_mm512_load_ps(sums + c), f));
    p.total[r] *= factor;
    p.most[r] = most;
  }
  p.total[r] += _mm512_reduce_add_ps(sum);
}

// One head, own tokens [start, start + rows) of a segment.
template <class D>
void attend_tile(Place<typename D::Value>& p, const Batch<typename D::Value>& batch, const Segment& s, int64_t head, int64_t start,
                 int rows, const Heads& h, const typename D::Value* packed_keys, const typename D::Value* packed_values) {
  constexpr int P = D::kPerWord;
  const int64_t words = h.size / P, places = rounded(s.keys(), kPanel), wide = rounded(h.size, kPanel);
  for (int r = 0; r < rows; ++r) {
    const int64_t at = s.begin + start + r;
    turn<D>(batch.qkv + at * batch.stride + head * h.size, batch.cosine + at * h.size, batch.sine + at * h.size, h.query_norm, h.eps,
            h.size, p.query + r * h.size);
    p.most[r] = -std::numeric_limits<float>::infinity();
    p.total[r] = 0;
  }
  std::memset(p.sums, 0, sizeof(float) * rows * wide);
  const int64_t position = s.reused + start, behind = position + rows;
  const int64_t from = h.window > 0 ? std::max<int64_t>(0, position - h.window + 1) / kPanel * kPanel : 0;
  for (int64_t first = from; first < behind; first += kKeys) {
    const int64_t width = std::min<int64_t>(kKeys, rounded(behind, kPanel) - first);
    for (int64_t c = 0; c < width; c += kPanel)
      against_panel<D>((const uint32_t*)p.query, words, rows, (const uint32_t*)(packed_keys + (first + c) * h.size), words,
                       [&](int row, __m512 s0, __m512 s1) {
                         _mm512_store_ps(p.scores[row] + c, s0);
                         _mm512_store_ps(p.scores[row] + c + kLanes, s1);
                       });
    for (int r = 0; r < rows; ++r) soften<D>(p, r, position + r, first, width, h);
    for (int64_t c = 0; c < wide; c += kPanel)
      against_panel<D>((const uint32_t*)p.weights[0], kKeys / P, rows, (const uint32_t*)(packed_values + c * places + first * kPanel),
                       width / P, [&](int row, __m512 s0, __m512 s1) {
                         float* to = p.sums + row * wide + c;
                         _mm512_store_ps(to, _mm512_add_ps(_mm512_load_ps(to), s0));
                         _mm512_store_ps(to + kLanes, _mm512_add_ps(_mm512_load_ps(to + kLanes), s1));
                       });
  }
  for (int r = 0; r < rows; ++r) {
    const __m512 inverse = _mm512_set1_ps(1.f / p.total[r]);
    auto* to = batch.out + (s.begin + start + r) * batch.out_stride + head * h.size;
    for (int64_t c = 0; c < h.size; c += kLanes)
      D::store(to + c, _mm512_mul_ps(_mm512_load_ps(p.sums + r * wide + c), inverse), tail(h.size - c));
  }
}

// `scratch`: (size + size rounded up to 32) numbers for each group and key, keys of a segment rounded up to 32.
template <class D>
void attention(const Batch<typename D::Value>& batch, const int32_t* bounds, const int32_t* reused, int64_t sequences, const Heads& h,
               typename D::Value* scratch, int threads) {
  using V = typename D::Value;
  struct Task { int64_t segment, group, start; };
  constexpr int64_t kSpan = 8 * kPositions;
  const int64_t each = h.heads / h.groups, wide = rounded(h.size, kPanel);
  std::vector<Segment> segments;
  std::vector<V*> packed;
  std::vector<Task> tasks;
  for (int64_t i = 0; i < sequences; ++i) {
    segments.push_back({bounds[i], bounds[i + 1] - bounds[i], i > 0 ? bounds[i - 1] : 0, reused ? reused[i] : 0});
    for (int64_t g = 0; g < h.groups; ++g) {
      packed.push_back(scratch);
      scratch += rounded(segments[i].keys(), kPanel) * (h.size + wide);
      for (int64_t start = 0; start < segments[i].count; start += kSpan) tasks.push_back({i, g, start});
    }
  }
  // Late positions cost most: they come first, so that the last tasks to finish are short.
  std::stable_sort(tasks.begin(), tasks.end(), [](const Task& a, const Task& b) { return a.start > b.start; });
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < sequences * h.groups; ++i) {
      const Segment& s = segments[i / h.groups];
      pack_keys<D>(batch, s, i % h.groups, h, packed[i], packed[i] + rounded(s.keys(), kPanel) * h.size);
    }
    const auto place = std::make_unique<Place<V>>();
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < (int64_t)tasks.size(); ++i) {
      const auto [segment, group, begin] = tasks[i];
      const Segment& s = segments[segment];
      const V* keys = packed[segment * h.groups + group];
      const V* values = keys + rounded(s.keys(), kPanel) * h.size;
      for (int64_t start = begin; start < std::min(begin + kSpan, s.count); start += kPositions)
        for (int64_t head = group * each; head < (group + 1) * each; ++head)
          attend_tile<D>(*place, batch, s, head, start, (int)std::min<int64_t>(kPositions, s.count - start), h, keys, values);
    }
  }
}

}  // namespace tiebreak
