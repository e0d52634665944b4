// float, bfloat16 and bytes in registers of sixteen lanes, and the functions that they need.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace tiebreak {

constexpr int kLanes = 16;           // columns in a register

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

}  // namespace tiebreak
