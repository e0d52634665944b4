// The inner loops of a decoder on a processor with AVX-512: one matrix product with fused ends, RMS norm, and causal
// attention over sequences that lie one behind the other without padding.
//
// Everything is built on one register tile. Both operands are read as 32-bit words that hold one float, two bfloat16 or
// four bytes; a word of a row is broadcast against 16 columns, so one code serves all three precisions:
//     c[row][column] += dot(a[row][word], b[word][column])
// The right operand is packed beforehand (`pack_*`): panels of 32 columns, word after word, hence read in order.
//
// Plain C interface, loaded with ctypes: no header of torch or Python is needed, and no build tool but the compiler.
#include <omp.h>

#include "attention.h"
#include "norm.h"
#include "product.h"

using namespace tiebreak;

enum Precision { kFloat = 0, kBrain = 1, kByte = 2 };

#pragma GCC visibility push(default)
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
#pragma GCC visibility pop
