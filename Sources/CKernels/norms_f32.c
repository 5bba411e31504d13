// Norms and rotary embedding of one row in float32. Sums run in 16 lanes and are then joined in a fixed order.
#include "simd.h"

LT_INLINE float sum_of_squares(const float *x, float mean, int n) {
  lt_v16 acc = lt_splat(0);
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    lt_v16 d = lt_load(x + i) - mean;
    acc += d * d;
  }
  float rest = 0;
  for (; i < n; i++) rest += (x[i] - mean) * (x[i] - mean);
  return lt_sum(acc) + rest;
}

LT_INLINE void lt_layer_norm_f32_body(float *out, const float *x, const float *multiply, float plus_one, const float *add, float eps, int n) {
  lt_v16 acc = lt_splat(0);
  int i = 0;
  for (; i + 16 <= n; i += 16) acc += lt_load(x + i);
  float rest = 0;
  for (; i < n; i++) rest += x[i];
  const float mean = (lt_sum(acc) + rest) / (float)n;
  const float inverse = 1.0f / sqrtf(sum_of_squares(x, mean, n) / (float)n + eps);
  for (i = 0; i < n; i++) out[i] = (x[i] - mean) * inverse * (multiply[i] + plus_one) + add[i];
}
LT_DISPATCH(lt_layer_norm_f32, (float *out, const float *x, const float *multiply, float plus_one, const float *add, float eps, int n),
            (out, x, multiply, plus_one, add, eps, n))

LT_INLINE float inverse_rms(const float *x, float eps, int n) { return 1.0f / sqrtf(sum_of_squares(x, 0, n) / (float)n + eps); }
LT_INLINE void lt_inverse_rms_f32_body(float *out, const float *x, ptrdiff_t stride, int rows, float eps, int n) {
  for (int r = 0; r < rows; r++) out[r] = inverse_rms(x + r * stride, eps, n);
}
LT_DISPATCH(lt_inverse_rms_f32, (float *out, const float *x, ptrdiff_t stride, int rows, float eps, int n), (out, x, stride, rows, eps, n))

LT_INLINE void lt_rms_norm_f32_body(float *out, const float *x, const float *weight, float eps, int n) {
  const float inverse = inverse_rms(x, eps, n);
  for (int i = 0; i < n; i++) out[i] = x[i] * inverse * weight[i];
}
LT_DISPATCH(lt_rms_norm_f32, (float *out, const float *x, const float *weight, float eps, int n), (out, x, weight, eps, n))

LT_INLINE void lt_channel_norm_f32_body(float *out, const float *x, const float *gamma, int silu, int n) {
  const float length = sqrtf(sum_of_squares(x, 0, n));
  const float inverse = sqrtf((float)n) / (length > 1e-12f ? length : 1e-12f);
  for (int i = 0; i < n; i++) out[i] = x[i] * inverse * gamma[i];
  if (!silu) return;
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    lt_v16 v = lt_load(out + i);
    lt_store(out + i, v / (1.0f + lt_exp(-v)));
  }
  if (i < n) {
    float tail[16] = {0};
    memcpy(tail, out + i, sizeof(float) * (size_t)(n - i));
    lt_v16 v = lt_load(tail);
    lt_store(tail, v / (1.0f + lt_exp(-v)));
    memcpy(out + i, tail, sizeof(float) * (size_t)(n - i));
  }
}
LT_DISPATCH(lt_channel_norm_f32, (float *out, const float *x, const float *gamma, int silu, int n), (out, x, gamma, silu, n))

LT_INLINE void lt_rotate_pairs_f32_body(float *x, const float *cosines, const float *sines, int pairs) {
  for (int p = 0; p < pairs; p++) {
    const float a = x[2 * p], b = x[2 * p + 1];
    x[2 * p] = a * cosines[p] - b * sines[p];
    x[2 * p + 1] = a * sines[p] + b * cosines[p];
  }
}
LT_DISPATCH(lt_rotate_pairs_f32, (float *x, const float *cosines, const float *sines, int pairs), (x, cosines, sines, pairs))
