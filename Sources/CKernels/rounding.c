// Between float32, bfloat16 and bytes.
#include "simd.h"
#include "bf16.h"

LT_INLINE void lt_round_bf16_body(uint16_t *out, const float *x, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) lt_store_bf16(out + i, lt_load(x + i));
  if (i < n) {
    float tail[16] = {0};
    uint16_t rounded[16];
    memcpy(tail, x + i, sizeof(float) * (size_t)(n - i));
    lt_store_bf16(rounded, lt_load(tail));
    memcpy(out + i, rounded, sizeof(uint16_t) * (size_t)(n - i));
  }
}
LT_DISPATCH(lt_round_bf16, (uint16_t *out, const float *x, int64_t n), (out, x, n))

LT_INLINE void lt_widen_bf16_body(float *out, const uint16_t *x, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) lt_store(out + i, lt_load_bf16(x + i));
  for (; i < n; i++) {
    const uint32_t bits = (uint32_t)x[i] << 16;
    memcpy(out + i, &bits, sizeof bits);
  }
}
LT_DISPATCH(lt_widen_bf16, (float *out, const uint16_t *x, int64_t n), (out, x, n))

// The first k numbers, at most sixteen, and zeros behind them.
LT_INLINE lt_v16 part_f32(const float *x, int k) {
  if (k >= 16) return lt_load(x);
  float tail[16] = {0};
  memcpy(tail, x, sizeof(float) * (size_t)k);
  return lt_load(tail);
}

LT_INLINE lt_v16 part_bf16(const uint16_t *x, int k) {
  if (k >= 16) return lt_load_bf16(x);
  uint16_t tail[16] = {0};
  memcpy(tail, x, sizeof(uint16_t) * (size_t)k);
  return lt_load_bf16(tail);
}

typedef int8_t lt_b16 __attribute__((vector_size(16), aligned(1), may_alias));

// Of whole numbers that stand in the low bits after the addition of 1.5 * 2^23.
LT_INLINE lt_b16 bytes_of(lt_v16 shifted) { return __builtin_convertvector((lt_i16)shifted - 0x4B400000, lt_b16); }

// Without fused multiply-adds, so that every instruction set rounds the same product.
#define QUANTISE(part, scale_of, factor_of)                                                                \
  _Pragma("clang fp contract(off)")                                                                        \
  lt_v16 most = lt_splat(0), wrong = lt_splat(0);                                                          \
  for (int i = 0; i < n; i += 16) {                                                                        \
    const lt_v16 v = part(x + i, n - i);                                                                   \
    most = lt_max(lt_select(v < 0.0f, -v, v), most);                                                       \
    wrong += v - v;                                                                                        \
  }                                                                                                        \
  const float largest = lt_largest(most), nan = lt_sum(wrong);                                             \
  const float step = scale_of(largest);                                                                    \
  if (!(nan == 0.0f) || !(step > 0.0f)) {                                                                  \
    memset(out, 0, (size_t)n);                                                                             \
    *scale = nan;                                                                                          \
    return;                                                                                                \
  }                                                                                                        \
  const float factor = factor_of(largest, step);                                                           \
  const lt_v16 magic = lt_splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */             \
  int i = 0;                                                                                               \
  for (; i + 16 <= n; i += 16)                                                                             \
    *(lt_b16 *)(out + i) = bytes_of(part(x + i, 16) * factor + magic);                                     \
  if (i < n) {                                                                                             \
    const lt_b16 bytes = bytes_of(part(x + i, n - i) * factor + magic);                                    \
    memcpy(out + i, &bytes, (size_t)(n - i));                                                              \
  }                                                                                                        \
  *scale = step;

#define ROW_SCALE(largest) ((largest) / 127.0f)
#define ROW_FACTOR(largest, step) (127.0f / (largest))

// The scale rounded to bf16: 127 times it is exact in float32, so that numbers that were read from bytes become the same
// bytes again. What is smaller than 1e-28 counts as zero.
LT_INLINE float coarse_scale(float largest) {
  const float exact = largest / 127.0f;
  uint32_t bits;
  memcpy(&bits, &exact, sizeof bits);
  bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000u;
  float step;
  memcpy(&step, &bits, sizeof step);
  return step < 1e-30f ? 0.0f : step;
}
#define COARSE_FACTOR(largest, step) (1.0f / (step))

LT_INLINE void lt_quantise_row_f32_body(float *scale, int8_t *out, const float *x, int n) { QUANTISE(part_f32, ROW_SCALE, ROW_FACTOR) }
LT_DISPATCH(lt_quantise_row_f32, (float *scale, int8_t *out, const float *x, int n), (scale, out, x, n))

LT_INLINE void lt_quantise_row_bf16_body(float *scale, int8_t *out, const uint16_t *x, int n) { QUANTISE(part_bf16, ROW_SCALE, ROW_FACTOR) }
LT_DISPATCH(lt_quantise_row_bf16, (float *scale, int8_t *out, const uint16_t *x, int n), (scale, out, x, n))

LT_INLINE void lt_remember_f32_body(float *scale, int8_t *out, const float *x, int n) {
  QUANTISE(part_f32, coarse_scale, COARSE_FACTOR)
}
LT_DISPATCH(lt_remember_f32, (float *scale, int8_t *out, const float *x, int n), (scale, out, x, n))

LT_INLINE void lt_remember_bf16_body(float *scale, int8_t *out, const uint16_t *x, int n) {
  QUANTISE(part_bf16, coarse_scale, COARSE_FACTOR)
}
LT_DISPATCH(lt_remember_bf16, (float *scale, int8_t *out, const uint16_t *x, int n), (scale, out, x, n))

LT_INLINE void lt_widen_bytes_body(float *out, const int8_t *x, float scale, int n) {
  for (int i = 0; i < n; i++) out[i] = (float)x[i] * scale;
}
LT_DISPATCH(lt_widen_bytes, (float *out, const int8_t *x, float scale, int n), (out, x, scale, n))
