// The product of rows with a packed matrix, and what is fused with it: bias, scales of bytes, a gated activation.
#pragma once
#include <algorithm>
#include <vector>

#include "numbers.h"

namespace tiebreak {

constexpr int kPanel = 2 * kLanes;   // columns in a panel
constexpr int kRows = 12;            // rows in a tile: 12 x 2 accumulators leave registers for the operands
constexpr int kChunk = 8 * kRows;    // rows that a thread takes at a time, small enough for its second-level cache

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

// (columns, width) row-major values -> panels; `columns` and `width` as stored, padded with zeros by the caller's buffer.
template <class V>
void pack(const V* weight, int64_t columns, int64_t width, int64_t words, int per_word, V* panels) {
  for (int64_t n = 0; n < columns; ++n)
    for (int64_t k = 0; k < width; ++k)
      panels[((n / kPanel) * words * kPanel + (k / per_word) * kPanel + n % kPanel) * per_word + k % per_word] = weight[n * width + k];
}

}  // namespace tiebreak
