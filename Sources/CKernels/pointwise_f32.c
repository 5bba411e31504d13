// Pointwise functions in float32, with the bias of the layer before them.
#include "simd.h"

LT_INLINE lt_v16 tanh_of(lt_v16 x) {
  // 1 - 2 / (e^2x + 1) loses digits near zero, where x - x^3/3 + 2x^5/15 is exact to float32.
  lt_v16 square = x * x;
  lt_v16 small = x * (1.0f + square * (-0.333333333f + square * (0.133333333f - square * 0.0539682540f)));
  lt_v16 large = 1.0f - 2.0f / (lt_exp(2.0f * x) + 1.0f);
  return lt_select(square < 0.01f, small, large);
}

LT_INLINE lt_v16 apply(lt_v16 x, int activation) {
  switch (activation) {
    case LT_RELU: return lt_select(x < 0.0f, lt_splat(0), x);
    case LT_SILU: return x / (1.0f + lt_exp(-x));
    case LT_GELU_TANH: return 0.5f * x * (1.0f + tanh_of(0.7978845608028654f * (x + 0.044715f * x * x * x)));
    case LT_SOFT_CLAMP_3: return 3.0f * tanh_of(x * (1.0f / 3.0f));
    default: return x;
  }
}

LT_INLINE void run(float *x, const float *bias, int64_t n, int activation) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    lt_v16 v = lt_load(x + i);
    if (bias) v += lt_load(bias + i);
    lt_store(x + i, apply(v, activation));
  }
  if (i < n) {
    float tail[16] = {0};
    memcpy(tail, x + i, sizeof(float) * (size_t)(n - i));
    for (int64_t j = 0; bias && j < n - i; j++) tail[j] += bias[i + j];
    lt_store(tail, apply(lt_load(tail), activation));
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

LT_INLINE void lt_bias_gate_add_f32_body(float *y, const float *bias, const float *gate, const float *residual, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    float v = bias ? y[i] + bias[i] : y[i];
    y[i] = residual[i] + (gate ? gate[i] * v : v);
  }
}
LT_DISPATCH(lt_bias_gate_add_f32, (float *y, const float *bias, const float *gate, const float *residual, int64_t n),
            (y, bias, gate, residual, n))

LT_INLINE void lt_combine_f32_body(float *out, float a, const float *x, float b, const float *y, int64_t n) {
  for (int64_t i = 0; i < n; i++) out[i] = a * x[i] + b * y[i];
}
LT_DISPATCH(lt_combine_f32, (float *out, float a, const float *x, float b, const float *y, int64_t n), (out, a, x, b, y, n))

int lt_all_finite_f32(const float *x, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (!isfinite(x[i])) return 0;
  return 1;
}
