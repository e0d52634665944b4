// The inner loops of a decoder on a processor with AVX-512: one matrix product with fused ends, RMS norm, and causal
// attention over sequences that lie one behind the other without padding.
//
// Everything is built on one register tile. Both operands are read as 32-bit words that hold one float, two bfloat16 or
// four bytes; a word of a row is broadcast against 16 columns, so one code serves all three precisions:
//     c[row][column] += dot(a[row][word], b[word][column])
// The right operand is packed beforehand (`pack_*`): panels of 32 columns, word after word, hence read in order.
//
// Plain C interface, loaded with ctypes: no header of torch or Python is needed, and no build tool but the compiler.
#include <immintrin.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

namespace {

constexpr int kLanes = 16;           // columns in a register
constexpr int kPanel = 2 * kLanes;   // columns in a panel
constexpr int kRows = 12;            // rows in a tile: 12 x 2 accumulators leave registers for the operands
constexpr int kChunk = 8 * kRows;    // rows that a thread takes at a time, small enough for its second-level cache

// ---- numbers -------------------------------------------------------------------------------------------------------

struct Float {  // one float a word
  using Value = float;
  using Sum = __m512;
  static constexpr int kPerWord = 1;
  static Sum zero() { return _mm512_setzero_ps(); }
  static Sum dot(Sum c, __m512i a, __m512i b) { return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), c); }
  static __m512 load(const float* from) { return _mm512_loadu_ps(from); }
  static __m512 load(const float* from, __mmask16 mask) { return _mm512_maskz_loadu_ps(mask, from); }
  static void store(float* to, __m512 x, __mmask16 mask = 0xffff) { _mm512_mask_storeu_ps(to, mask, x); }
};

struct Brain {  // two bfloat16 a word
  using Value = uint16_t;
  using Sum = __m512;
  static constexpr int kPerWord = 2;
  static Sum zero() { return _mm512_setzero_ps(); }
  static Sum dot(Sum c, __m512i a, __m512i b) { return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b); }
  static __m512 widen(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }
  static __m512 load(const uint16_t* from) { return widen(_mm256_loadu_si256((const __m256i*)from)); }
  static __m512 load(const uint16_t* from, __mmask16 mask) { return widen(_mm256_maskz_loadu_epi16(mask, from)); }
  static void store(uint16_t* to, __m512 x, __mmask16 mask = 0xffff) {
    _mm256_mask_storeu_epi16(to, mask, (__m256i)_mm512_cvtneps_pbh(x));
  }
};

struct Byte {  // four bytes a word: unsigned on the left, signed on the right
  using Value = uint8_t;
  using Sum = __m512i;
  static constexpr int kPerWord = 4;
  static Sum zero() { return _mm512_setzero_si512(); }
  static Sum dot(Sum c, __m512i a, __m512i b) { return _mm512_dpbusd_epi32(c, a, b); }
};

// The first `count` of sixteen lanes; none where it is negative.
inline __mmask16 tail(int64_t count) {
  return count >= kLanes ? 0xffff : count <= 0 ? 0 : (__mmask16)((1u << count) - 1);
}

// e^x for x <= 88: 2^n times a polynomial on [-ln2/2, ln2/2], error about 1e-7 relative.
inline __m512 exponential(__m512 x) {
  x = _mm512_max_ps(x, _mm512_set1_ps(-104.f));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145752f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860677e-6f), r);
  __m512 p = _mm512_set1_ps(1.3888889e-3f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3333333e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1666667e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666667e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(.5f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.f));
  return _mm512_scalef_ps(p, n);
}

// tanh(x) = 1 - 2 / (e^2x + 1)
inline __m512 hyperbolic_tangent(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.f);
  const __m512 e = exponential(_mm512_min_ps(_mm512_add_ps(x, x), _mm512_set1_ps(80.f)));
  return _mm512_sub_ps(one, _mm512_div_ps(_mm512_set1_ps(2.f), _mm512_add_ps(e, one)));
}

enum Activation { kSilu = 0, kGeluTanh = 1 };

inline __m512 activate(__m512 x, int kind) {
  const __m512 one = _mm512_set1_ps(1.f);
  if (kind == kSilu) return _mm512_div_ps(x, _mm512_add_ps(one, exponential(_mm512_min_ps(_mm512_sub_ps(_mm512_setzero_ps(), x), _mm512_set1_ps(80.f)))));
  const __m512 cube = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
  const __m512 inner = _mm512_mul_ps(_mm512_set1_ps(.7978845608f), _mm512_fmadd_ps(_mm512_set1_ps(.044715f), cube, x));
  return _mm512_mul_ps(_mm512_mul_ps(_mm512_set1_ps(.5f), x), _mm512_add_ps(one, hyperbolic_tangent(inner)));
}

// ---- the tile ------------------------------------------------------------------------------------------------------

// Kept out of line: inlined into its callers, the compiler runs out of registers and spills inside the loop.
template <class D, int R>
__attribute__((noinline)) void tile(const uint32_t* a, int64_t stride, const uint32_t* b, int64_t words, typename D::Sum (*sums)[2]) {
  typename D::Sum c[R][2];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) c[r][0] = c[r][1] = D::zero();
  for (int64_t k = 0; k < words; ++k) {
    const __m512i b0 = _mm512_loadu_si512(b + k * kPanel);
    const __m512i b1 = _mm512_loadu_si512(b + k * kPanel + kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const __m512i x = _mm512_set1_epi32((int)a[r * stride + k]);
      c[r][0] = D::dot(c[r][0], x, b0);
      c[r][1] = D::dot(c[r][1], x, b1);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) sums[r][0] = c[r][0], sums[r][1] = c[r][1];
}

// All rows against one panel; `end(row, left, right)` receives the sums of 16 + 16 columns.
template <class D, class End>
inline void against_panel(const uint32_t* a, int64_t stride, int rows, const uint32_t* b, int64_t words, End&& end) {
  typename D::Sum sums[kRows][2];
  for (int row = 0; row < rows;) {
    const int left = rows - row, taken = left >= kRows ? kRows : left >= 4 ? 4 : 1;
    const uint32_t* from = a + row * stride;
    if (taken == kRows) tile<D, kRows>(from, stride, b, words, sums);
    else if (taken == 4) tile<D, 4>(from, stride, b, words, sums);
    else tile<D, 1>(from, stride, b, words, sums);
    for (int r = 0; r < taken; ++r) end(row + r, sums[r][0], sums[r][1]);
    row += taken;
  }
}

// A packed matrix: `columns` outputs of `words` words each.
struct Matrix {
  const uint32_t* panels;
  const float* scale;  // bytes only: of each column
  const float* shift;  // bytes only: 128 x sum of the column, which the unsigned left operand adds
  const float* bias;   // or null
  int64_t columns, words;
};

// Rows as a chunk sees them: bytes are made here, with a scale a row; other precisions are read where they lie.
template <class D>
struct Left;

template <>
struct Left<Float> {
  std::vector<uint32_t> unused;
  const uint32_t* set(const float* x, int64_t stride, int, int64_t) { step = stride; return (const uint32_t*)x; }
  int64_t step = 0;
  static __m512 value(__m512 sum, int, const Matrix&, int64_t) { return sum; }
};

template <>
struct Left<Brain> {
  const uint32_t* set(const uint16_t* x, int64_t stride, int, int64_t) { step = stride / 2; return (const uint32_t*)x; }
  int64_t step = 0;
  static __m512 value(__m512 sum, int, const Matrix&, int64_t) { return sum; }
};

template <>
struct Left<Byte> {  // reads bfloat16
  std::vector<uint8_t> bytes;
  float scales[kChunk];
  int64_t step = 0;
  const uint32_t* set(const uint16_t* x, int64_t stride, int rows, int64_t words) {
    const int64_t width = words * 4;
    if ((int64_t)bytes.size() < kChunk * width) bytes.resize(kChunk * width);
    for (int r = 0; r < rows; ++r) {
      const uint16_t* from = x + r * stride;
      __m512 top = _mm512_setzero_ps();
      for (int64_t k = 0; k < width; k += kLanes)
        top = _mm512_max_ps(top, _mm512_abs_ps(Brain::load(from + k, tail(width - k))));
      const float most = _mm512_reduce_max_ps(top);
      scales[r] = most / 127.f;
      const __m512 inverse = _mm512_set1_ps(most > 0 ? 127.f / most : 0.f);
      for (int64_t k = 0; k < width; k += kLanes) {
        const __mmask16 mask = tail(width - k);
        const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(Brain::load(from + k, mask), inverse));
        _mm_mask_storeu_epi8(bytes.data() + r * width + k, mask, _mm512_cvtepi32_epi8(_mm512_add_epi32(q, _mm512_set1_epi32(128))));
      }
    }
    step = words;
    return (const uint32_t*)bytes.data();
  }
  __m512 value(__m512i sum, int row, const Matrix& m, int64_t column) const {
    const __m512 whole = _mm512_sub_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(m.shift + column));
    return _mm512_mul_ps(_mm512_mul_ps(whole, _mm512_set1_ps(scales[row])), _mm512_loadu_ps(m.scale + column));
  }
};

template <class D>
struct Io { using Type = D; };
template <>
struct Io<Byte> { using Type = Brain; };
template <class D>
using IoOf = typename Io<D>::Type;

template <class D>
void linear_chunk(Left<D>& left, const typename IoOf<D>::Value* x, int64_t stride, int rows, const Matrix& m,
                  typename IoOf<D>::Value* out, int64_t out_stride) {
  const uint32_t* a = left.set(x, stride, rows, m.words);
  for (int64_t column = 0; column < m.columns; column += kPanel) {
    const __mmask16 low = tail(m.columns - column), high = tail(m.columns - column - kLanes);
    const __m512 none = _mm512_setzero_ps();
    const __m512 b0 = m.bias ? _mm512_loadu_ps(m.bias + column) : none;
    const __m512 b1 = m.bias ? _mm512_loadu_ps(m.bias + column + kLanes) : none;
    against_panel<D>(a, left.step, rows, m.panels + column * m.words, m.words, [&](int row, auto s0, auto s1) {
      auto* to = out + row * out_stride + column;
      IoOf<D>::store(to, _mm512_add_ps(left.value(s0, row, m, column), b0), low);
      if (high) IoOf<D>::store(to + kLanes, _mm512_add_ps(left.value(s1, row, m, column + kLanes), b1), high);
    });
  }
}

// activation(gate) x up; the columns of gate and up take turns, sixteen at a time, in `m`.
template <class D>
void gated_chunk(Left<D>& left, const typename IoOf<D>::Value* x, int64_t stride, int rows, const Matrix& m, int act,
                 typename IoOf<D>::Value* out, int64_t out_stride) {
  const uint32_t* a = left.set(x, stride, rows, m.words);
  for (int64_t column = 0; column < m.columns; column += kPanel) {
    against_panel<D>(a, left.step, rows, m.panels + column * m.words, m.words, [&](int row, auto gate, auto up) {
      const __m512 g = activate(left.value(gate, row, m, column), act);
      IoOf<D>::store(out + row * out_stride + column / 2, _mm512_mul_ps(g, left.value(up, row, m, column + kLanes)));
    });
  }
}

template <class D>
void linear(const void* x, int64_t stride, int64_t rows, const Matrix& m, void* out, int64_t out_stride, int threads) {
  using V = typename IoOf<D>::Value;
#pragma omp parallel num_threads(threads)
  {
    Left<D> left;
#pragma omp for schedule(dynamic, 1)
    for (int64_t start = 0; start < rows; start += kChunk)
      linear_chunk<D>(left, (const V*)x + start * stride, stride, (int)std::min<int64_t>(kChunk, rows - start), m,
                      (V*)out + start * out_stride, out_stride);
  }
}

template <class D, class E>
void mlp(const void* x, int64_t stride, int64_t rows, const Matrix& gate_up, const Matrix& down, int act, void* out,
         int64_t out_stride, int threads) {
  using V = typename IoOf<D>::Value;
  const int64_t inner = gate_up.columns / 2;  // a multiple of 16, as packed
#pragma omp parallel num_threads(threads)
  {
    Left<D> left;
    Left<E> middle;
    std::vector<V> between(kChunk * inner);
#pragma omp for schedule(dynamic, 1)
    for (int64_t start = 0; start < rows; start += kChunk) {
      const int count = (int)std::min<int64_t>(kChunk, rows - start);
      gated_chunk<D>(left, (const V*)x + start * stride, stride, count, gate_up, act, between.data(), inner);
      linear_chunk<E>(middle, between.data(), inner, count, down, (V*)out + start * out_stride, out_stride);
    }
  }
}

// ---- norm ----------------------------------------------------------------------------------------------------------

template <class D>
inline void rms_norm_row(const typename D::Value* x, const float* weight, int64_t width, float eps, typename D::Value* out) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t k = 0; k < width; k += kLanes) {
    const __m512 v = D::load(x + k, tail(width - k));
    sum = _mm512_fmadd_ps(v, v, sum);
  }
  const __m512 factor = _mm512_set1_ps(1.f / std::sqrt(_mm512_reduce_add_ps(sum) / (float)width + eps));
  for (int64_t k = 0; k < width; k += kLanes) {
    const __mmask16 mask = tail(width - k);
    const __m512 v = _mm512_mul_ps(D::load(x + k, mask), factor);
    D::store(out + k, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask, weight + k)), mask);
  }
}

template <class D>
void rms_norm(const void* x, int64_t stride, int64_t rows, int64_t width, const float* weight, float eps, void* out, int threads) {
  using V = typename D::Value;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t row = 0; row < rows; ++row)
    rms_norm_row<D>((const V*)x + row * stride, weight, width, eps, (V*)out + row * width);
}

// ---- attention -----------------------------------------------------------------------------------------------------

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

// ---- packing of weights --------------------------------------------------------------------------------------------

// (columns, width) row-major values -> panels; `columns` and `width` as stored, padded with zeros by the caller's buffer.
template <class V>
void pack(const V* weight, int64_t columns, int64_t width, int64_t words, int per_word, V* panels) {
  for (int64_t n = 0; n < columns; ++n)
    for (int64_t k = 0; k < width; ++k)
      panels[((n / kPanel) * words * kPanel + (k / per_word) * kPanel + n % kPanel) * per_word + k % per_word] = weight[n * width + k];
}

}  // namespace

// ---- interface -----------------------------------------------------------------------------------------------------

enum Precision { kFloat = 0, kBrain = 1, kByte = 2 };

extern "C" {

void tiebreak_pack(const void* weight, int64_t columns, int64_t width, int64_t words, int precision, void* panels) {
  if (precision == kFloat) pack((const float*)weight, columns, width, words, 1, (float*)panels);
  else if (precision == kBrain) pack((const uint16_t*)weight, columns, width, words, 2, (uint16_t*)panels);
  else pack((const uint8_t*)weight, columns, width, words, 4, (uint8_t*)panels);
}

void tiebreak_linear(int precision, const void* x, int64_t stride, int64_t rows, const Matrix* m, void* out, int64_t out_stride, int threads) {
  if (precision == kFloat) linear<Float>(x, stride, rows, *m, out, out_stride, threads);
  else if (precision == kBrain) linear<Brain>(x, stride, rows, *m, out, out_stride, threads);
  else linear<Byte>(x, stride, rows, *m, out, out_stride, threads);
}

void tiebreak_mlp(int first, int second, const void* x, int64_t stride, int64_t rows, const Matrix* gate_up, const Matrix* down,
                  int activation, void* out, int64_t out_stride, int threads) {
  if (first == kFloat) mlp<Float, Float>(x, stride, rows, *gate_up, *down, activation, out, out_stride, threads);
  else if (first == kBrain) mlp<Brain, Brain>(x, stride, rows, *gate_up, *down, activation, out, out_stride, threads);
  else if (second == kBrain) mlp<Byte, Brain>(x, stride, rows, *gate_up, *down, activation, out, out_stride, threads);
  else mlp<Byte, Byte>(x, stride, rows, *gate_up, *down, activation, out, out_stride, threads);
}

void tiebreak_rms_norm(int precision, const void* x, int64_t stride, int64_t rows, int64_t width, const float* weight, float eps, void* out, int threads) {
  if (precision == kFloat) rms_norm<Float>(x, stride, rows, width, weight, eps, out, threads);
  else rms_norm<Brain>(x, stride, rows, width, weight, eps, out, threads);
}

void tiebreak_attention(int precision, const void* qkv, int64_t stride, const void* cosine, const void* sine, const int32_t* bounds,
                        const int32_t* reused, int64_t sequences, const Heads* h, void* out, int64_t out_stride, void* scratch,
                        int threads) {
  if (precision == kFloat)
    attention<Float>({(const float*)qkv, stride, (const float*)cosine, (const float*)sine, (float*)out, out_stride}, bounds, reused,
                     sequences, *h, (float*)scratch, threads);
  else
    attention<Brain>({(const uint16_t*)qkv, stride, (const uint16_t*)cosine, (const uint16_t*)sine, (uint16_t*)out, out_stride}, bounds,
                     reused, sequences, *h, (uint16_t*)scratch, threads);
}

}  // extern "C"
