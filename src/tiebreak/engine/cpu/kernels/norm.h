// RMS norm, rounded once.
#pragma once
#include <cmath>

#include "numbers.h"

namespace tiebreak {

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

}  // namespace tiebreak
