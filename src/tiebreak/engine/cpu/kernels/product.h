// The product of rows with a packed matrix, and what is fused with it: bias, scales of bytes, a gated activation.
#pragma once
#include <algorithm>
#include <vector>

#include "numbers.h"

namespace tiebreak {

constexpr int kPanel = 2 * kLanes;   // columns in a panel
constexpr int kRows = 12;            // rows in a tile: 12 x 2 accumulators leave registers for the operands
constexpr int64_t kGroup = 48;       // words of bytes that share a scale
constexpr int kChunk = 8 * kRows;    // rows that a thread takes at a time, small enough for its second-level cache

// `start`: what each column's sum begins with, or null for zero. Kept out of line: inlined into its callers, the
// compiler runs out of registers and spills inside the loop.
template <class D, int R>
__attribute__((noinline)) void tile(const uint32_t* a, int64_t stride, const uint32_t* b, int64_t words, const int32_t* start,
                                    typename D::Sum (*sums)[2]) {
  typename D::Sum c[R][2];
  const auto s0 = start ? (typename D::Sum)_mm512_loadu_si512(start) : D::zero();
  const auto s1 = start ? (typename D::Sum)_mm512_loadu_si512(start + kLanes) : D::zero();
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) c[r][0] = s0, c[r][1] = s1;
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

// The same for bytes, as floats. Each row has a scale for every group of `kGroup` words, so that an outlier costs
// precision in its own group alone; `shift` undoes what the unsigned left operand adds.
template <int R>
void tile_of_bytes(const uint32_t* a, int64_t stride, const float* scales, int64_t groups, const uint32_t* b, const int32_t* shift,
                   int64_t words, __m512 (*sums)[2]) {
  for (int r = 0; r < R; ++r) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
  for (int64_t g = 0; g < groups; ++g) {
    __m512i c[R][2];
    const int64_t first = g * kGroup;
    tile<Byte, R>(a + first, stride, b + first * kPanel, std::min(kGroup, words - first), shift + g * kPanel, c);
    for (int r = 0; r < R; ++r) {
      const __m512 scale = _mm512_set1_ps(scales[r * groups + g]);
      sums[r][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(c[r][0]), scale, sums[r][0]);
      sums[r][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(c[r][1]), scale, sums[r][1]);
    }
  }
}

template <int R>
struct Count {
  static constexpr int value = R;
};

// Rows by tiles: `product(Count, row, sums)` fills the sums of 16 + 16 columns, `end(row, left, right)` receives them.
template <class Product, class End>
inline void by_tiles(int rows, Product&& product, End&& end) {
  __m512 sums[kRows][2];
  for (int row = 0; row < rows;) {
    const int left = rows - row, taken = left >= kRows ? kRows : left >= 4 ? 4 : 1;
    if (taken == kRows) product(Count<kRows>{}, row, sums);
    else if (taken == 4) product(Count<4>{}, row, sums);
    else product(Count<1>{}, row, sums);
    for (int r = 0; r < taken; ++r) end(row + r, sums[r][0], sums[r][1]);
    row += taken;
  }
}

// All rows against one panel.
template <class D, class End>
inline void against_panel(const uint32_t* a, int64_t stride, int rows, const uint32_t* b, int64_t words, End&& end) {
  by_tiles(rows, [&](auto count, int row, __m512(*sums)[2]) { tile<D, count.value>(a + row * stride, stride, b, words, nullptr, sums); }, end);
}

// A packed matrix: `columns` outputs of `words` words each. Bytes have a scale for each column, and for each panel,
// group and column -128 x the sum of the weights.
struct Matrix {
  const uint32_t* panels;
  const float* scale;
  const int32_t* shift;
  const float* bias;  // or null
  int64_t columns, words;
  int64_t groups() const { return (words + kGroup - 1) / kGroup; }
  const uint32_t* panel(int64_t column) const { return panels + column * words; }
};

// Rows as a chunk sees them: bytes are made here, other precisions are read where they lie.
template <class D>
struct Left {
  const uint32_t* words = nullptr;
  int64_t step = 0;
  void set(const typename D::Value* x, int64_t stride, int, const Matrix&) {
    words = (const uint32_t*)x;
    step = stride / D::kPerWord;
  }
  template <class End>
  void against(int rows, const Matrix& m, int64_t column, End&& end) const {
    against_panel<D>(words, step, rows, m.panel(column), m.words, end);
  }
};

template <>
struct Left<Byte> {  // reads bfloat16
  std::vector<uint8_t> bytes;
  std::vector<float> scales;

  void set(const uint16_t* x, int64_t stride, int rows, const Matrix& m) {
    const int64_t width = m.words * 4, each = kGroup * 4, groups = m.groups();
    bytes.resize(std::max<size_t>(bytes.size(), kChunk * width));
    scales.resize(std::max<size_t>(scales.size(), kChunk * groups));
    for (int r = 0; r < rows; ++r)
      for (int64_t g = 0; g < groups; ++g)
        scales[r * groups + g] = round(x + r * stride + g * each, std::min(each, width - g * each), bytes.data() + r * width + g * each);
  }

  // Gives the scale: the largest absolute number over 127.
  static float round(const uint16_t* from, int64_t count, uint8_t* to) {
    __m512 top = _mm512_setzero_ps();
    for (int64_t k = 0; k < count; k += kLanes) top = _mm512_max_ps(top, _mm512_abs_ps(Brain::load(from + k, tail(count - k))));
    const float most = _mm512_reduce_max_ps(top);
    const __m512 inverse = _mm512_set1_ps(most > 0 ? 127.f / most : 0.f);
    for (int64_t k = 0; k < count; k += kLanes) {
      const __mmask16 mask = tail(count - k);
      const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(Brain::load(from + k, mask), inverse));
      _mm_mask_storeu_epi8(to + k, mask, _mm512_cvtepi32_epi8(_mm512_add_epi32(q, _mm512_set1_epi32(128))));
    }
    return most / 127.f;
  }

  template <class End>
  void against(int rows, const Matrix& m, int64_t column, End&& end) const {
    const int64_t groups = m.groups();
    const __m512 c0 = _mm512_loadu_ps(m.scale + column), c1 = _mm512_loadu_ps(m.scale + column + kLanes);
    by_tiles(
        rows,
        [&](auto count, int row, __m512(*sums)[2]) {
          tile_of_bytes<count.value>((const uint32_t*)bytes.data() + row * m.words, m.words, scales.data() + row * groups, groups,
                                     m.panel(column), m.shift + column * groups, m.words, sums);
        },
        [&](int row, __m512 s0, __m512 s1) { end(row, _mm512_mul_ps(s0, c0), _mm512_mul_ps(s1, c1)); });
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
  left.set(x, stride, rows, m);
  for (int64_t column = 0; column < m.columns; column += kPanel) {
    const __mmask16 low = tail(m.columns - column), high = tail(m.columns - column - kLanes);
    const __m512 none = _mm512_setzero_ps();
    const __m512 b0 = m.bias ? _mm512_loadu_ps(m.bias + column) : none;
    const __m512 b1 = m.bias ? _mm512_loadu_ps(m.bias + column + kLanes) : none;
    left.against(rows, m, column, [&](int row, __m512 s0, __m512 s1) {
      auto* to = out + row * out_stride + column;
      IoOf<D>::store(to, _mm512_add_ps(s0, b0), low);
      if (high) IoOf<D>::store(to + kLanes, _mm512_add_ps(s1, b1), high);
    });
  }
}

// activation(gate) x up; the columns of gate and up take turns, sixteen at a time, in `m`.
template <class D>
void gated_chunk(Left<D>& left, const typename IoOf<D>::Value* x, int64_t stride, int rows, const Matrix& m, int act,
                 typename IoOf<D>::Value* out, int64_t out_stride) {
  left.set(x, stride, rows, m);
  for (int64_t column = 0; column < m.columns; column += kPanel) {
    left.against(rows, m, column, [&](int row, __m512 gate, __m512 up) {
      IoOf<D>::store(out + row * out_stride + column / 2, _mm512_mul_ps(activate(gate, act), up));
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

// (columns, width) row-major values -> panels; `columns` and `width` as stored, padded with zeros by the caller's buffer.
template <class V>
void pack(const V* weight, int64_t columns, int64_t width, int64_t words, int per_word, V* panels) {
  for (int64_t n = 0; n < columns; ++n)
    for (int64_t k = 0; k < width; ++k)
      panels[((n / kPanel) * words * kPanel + (k / per_word) * kPanel + n % kPanel) * per_word + k % per_word] = weight[n * width + k];
}

}  // namespace tiebreak
