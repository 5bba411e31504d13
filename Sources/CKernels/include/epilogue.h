// What follows a matrix product of reduced precision, and what goes before it (epilogue.c, rounding.c).
#pragma once
#include <stddef.h>
#include <stdint.h>

// out = activation(residual + gate * (scale * sum + bias)), row by row while the sums are in cache. Pointers may be NULL
// where the factor is 1 or the term is 0.
typedef struct {
  const float *sums;             // row r at sums + r * sum_stride
  ptrdiff_t sum_stride;
  int rows, columns;
  const float *row_scales;       // [rows]; with column_scales: scale = row_scales[r] * column_scales[c]
  const float *column_scales;    // [columns]
  const float *bias;             // [columns]
  const float *gates;            // row r reads gates + groups[r] * gate_stride
  const int32_t *groups;         // [rows]
  ptrdiff_t gate_stride;
  const float *residual;         // rows at the stride of the output; or
  const uint16_t *residual_bf16;
  int activation;
  float *out;                    // row r at out + r * out_stride; or, rounded to nearest even,
  uint16_t *out_bf16;
  ptrdiff_t out_stride;
} lt_finish_arguments;
void lt_finish_rows(const lt_finish_arguments *a);

// Rounds to bfloat16, to nearest even; NaN stays NaN.
void lt_round_bf16(uint16_t *out, const float *x, int64_t n);
// The same numbers as float32.
void lt_widen_bf16(float *out, const uint16_t *x, int64_t n);
// out[i] = round(x[i] / scale) with scale = max |x| / 127; 0 and zeros for a row of zeros. A row with a NaN or an infinity
// has the scale NaN, which its products then are.
void lt_quantise_row_f32(float *scale, int8_t *out, const float *x, int n);
void lt_quantise_row_bf16(float *scale, int8_t *out, const uint16_t *x, int n);
// The same with a scale that is rounded to bf16, so that the numbers of lt_widen_bytes give the same bytes and scale again;
// a row of numbers below 1e-28 is one of zeros.
void lt_remember_f32(float *scale, int8_t *out, const float *x, int n);
void lt_remember_bf16(float *scale, int8_t *out, const uint16_t *x, int n);
// out[i] = x[i] * scale.
void lt_widen_bytes(float *out, const int8_t *x, float scale, int n);
