// Pointwise functions in float32, with the bias of the layer before them.
#include "activation.h"

LT_INLINE void run(float *x, const float *bias, int64_t n, int activation) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    lt_v16 v = lt_load(x + i);
    if (bias) v += lt_load(bias + i);
    lt_store(x + i, lt_activate(v, activation));
  }
  if (i < n) {
    float tail[16] = {0};
    memcpy(tail, x + i, sizeof(float) * (size_t)(n - i));
    for (int64_t j = 0; bias && j < n - i; j++) tail[j] += bias[i + j];
    lt_store(tail, lt_activate(lt_load(tail), activation));
    memcpy(x + i, tail, sizeof(float) * (size_t)(n - i));
  }
}

LT_INLINE void lt_bias_activate_f32_body(float *x, const float *bias, int64_t n, int activation) {
  switch (activation) {
    case LT_RELU: run(x, bias, n, LT_RELU); break;
    case LT_SILU: run(x, bias, n, LT_SILU); break;
    case LT_GELU_TANH: run(x, bias, n, LT_GELU_TANH); break;
    case LT_SOFT_CLAMP_3: run(x, bias, n, LT_SOFT_CLAMP_3); break;
    default: if (bias) run(x, bias, n, LT_NONE);
  }
}
LT_DISPATCH(lt_bias_activate_f32, (float *x, const float *bias, int64_t n, int activation), (x, bias, n, activation))

LT_INLINE void lt_combine_f32_body(float *out, float a, const float *x, float b, const float *y, int64_t n) {
  for (int64_t i = 0; i < n; i++) out[i] = a * x[i] + b * y[i];
}
LT_DISPATCH(lt_combine_f32, (float *out, float a, const float *x, float b, const float *y, int64_t n), (out, a, x, b, y, n))

int lt_all_finite_f32(const float *x, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (!isfinite(x[i])) return 0;
  return 1;
}

LT_INLINE void lt_pixels_of_f32_body(uint8_t *out, const float *x, int64_t n, int32_t *any_wrong) {
  lt_v16 wrong = lt_splat(0);
  int64_t i = 0;
  for (; i < n; i += 16) {
    float tail[16] = {0};
    const int64_t there = n - i < 16 ? n - i : 16;
    if (there < 16) memcpy(tail, x + i, sizeof(float) * (size_t)there);
    const lt_v16 v = there < 16 ? lt_load(tail) : lt_load(x + i);
    wrong += v - v;  // 0, or no number
    const lt_v16 scaled = lt_max(lt_min(v * 255.0f, lt_splat(255)), lt_splat(0));
    const lt_i16 whole = __builtin_convertvector(scaled, lt_i16);
    typedef uint8_t bytes __attribute__((vector_size(16)));
    const bytes small = __builtin_convertvector(whole, bytes);
    if (there == 16) memcpy(out + i, &small, 16);
    else memcpy(out + i, &small, (size_t)there);
  }
  *any_wrong = !(lt_sum(wrong) == 0.0f);
}
LT_DISPATCH(lt_pixels_of_f32, (uint8_t *out, const float *x, int64_t n, int32_t *wrong), (out, x, n, wrong))
