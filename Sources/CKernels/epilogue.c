// Scale, bias, gate, residual, activation and rounding of the sums of a product, in one pass.
#include "activation.h"
#include "bf16.h"

// Sixteen columns of one row, or the first `k` of them, which stand at the front of buffers of sixteen.
LT_INLINE lt_v16 finish(const float *sums, const float *column_scales, float row_scale,
                        const float *bias, const float *gate, const float *residual, const uint16_t *residual_bf16,
                        int activation) {
  lt_v16 v = lt_load(sums);
  if (column_scales) v *= lt_load(column_scales) * row_scale;
  if (bias) v += lt_load(bias);
  if (gate) v *= lt_load(gate);
  if (residual) v += lt_load(residual);
  if (residual_bf16) v += lt_load_bf16(residual_bf16);
  return lt_activate(v, activation);
}

LT_INLINE void rows(const lt_finish_arguments *a, int activation) {
  const int whole = a->columns / 16 * 16, rest = a->columns - whole;
  for (int r = 0; r < a->rows; r++) {
    const float *sums = a->sums + r * a->sum_stride;
    const float *gate = a->gates ? a->gates + a->groups[r] * a->gate_stride : NULL;
    const float *residual = a->residual ? a->residual + r * a->out_stride : NULL;
    const uint16_t *residual_bf16 = a->residual_bf16 ? a->residual_bf16 + r * a->out_stride : NULL;
    const float scale = a->row_scales ? a->row_scales[r] : 1.0f;
    float *out = a->out ? a->out + r * a->out_stride : NULL;
    uint16_t *out_bf16 = a->out_bf16 ? a->out_bf16 + r * a->out_stride : NULL;
    for (int c = 0; c < whole; c += 16) {
      const lt_v16 v = finish(sums + c, a->column_scales ? a->column_scales + c : NULL, scale, a->bias ? a->bias + c : NULL,
                              gate ? gate + c : NULL, residual ? residual + c : NULL,
                              residual_bf16 ? residual_bf16 + c : NULL, activation);
      if (out) lt_store(out + c, v);
      if (out_bf16) lt_store_bf16(out_bf16 + c, v);
    }
    if (rest == 0) continue;
    float s[16] = {0}, k[16] = {0}, b[16] = {0}, g[16] = {0}, y[16] = {0};
    uint16_t h[16] = {0};
    const size_t bytes = sizeof(float) * (size_t)rest;
    memcpy(s, sums + whole, bytes);
    if (a->column_scales) memcpy(k, a->column_scales + whole, bytes);
    if (a->bias) memcpy(b, a->bias + whole, bytes);
    if (gate) memcpy(g, gate + whole, bytes);
    if (residual) memcpy(y, residual + whole, bytes);
    if (residual_bf16) memcpy(h, residual_bf16 + whole, bytes / 2);
    const lt_v16 v = finish(s, a->column_scales ? k : NULL, scale, a->bias ? b : NULL, gate ? g : NULL, residual ? y : NULL,
                            residual_bf16 ? h : NULL, activation);
    lt_store(s, v);
    lt_store_bf16(h, v);
    if (out) memcpy(out + whole, s, bytes);
    if (out_bf16) memcpy(out_bf16 + whole, h, bytes / 2);
  }
}

LT_INLINE void lt_finish_rows_body(const lt_finish_arguments *a) {
  switch (a->activation) {
    case LT_RELU: rows(a, LT_RELU); break;
    case LT_SILU: rows(a, LT_SILU); break;
    case LT_GELU_TANH: rows(a, LT_GELU_TANH); break;
    case LT_SOFT_CLAMP_3: rows(a, LT_SOFT_CLAMP_3); break;
    default: rows(a, LT_NONE);
  }
}
LT_DISPATCH(lt_finish_rows, (const lt_finish_arguments *a), (a))
