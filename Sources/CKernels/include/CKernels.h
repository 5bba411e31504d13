// SIMD kernels in C, one file per operation. Each is written once in vectors of 16 floats and compiled for AVX-512, AVX2
// and the baseline; the level is chosen at run time. None allocates memory or starts a thread.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "epilogue.h"

// Which code path the processor gets: "avx512", "avx2" or "baseline".
const char *lt_simd_level(void);

// One tile of queries over a list of key and value pages, with one online softmax (attention_f32.c). Pages below
// `keyed_from` are read token by token; those from there on hold one summary row per column, such as centroids of pages.
typedef struct {
  const float *queries;         // row r at queries + r * query_stride, head_dim numbers
  ptrdiff_t query_stride;
  int rows;                     // query rows of this tile, any number from 1
  int head_dim;
  float scale;                  // logit = scale * q.k + bias
  const float *const *keys;     // [pages], each [head_dim][width]
  const float *const *values;   // [pages], each [count][value_stride]
  const float *const *biases;   // [pages] or NULL, entries may be NULL; of key j for row r: biases[p][j + r * bias_row_step]
  ptrdiff_t bias_row_step;
  const int32_t *counts;        // [pages], keys in each page, at most width
  int pages;
  int width;                    // padded keys of a page: 16, 32, 48 or 64
  int value_stride;             // head_dim rounded up to 16, padding zero
  float *output;                // row r at output + r * output_stride, head_dim numbers
  ptrdiff_t output_stride;
  float *scratch;               // rows * (value_stride + 64 + 2) floats
  float *log_sum_exp;           // [rows], natural logarithm, -inf for no keys; or NULL
  int keyed_from;               // first page of summary rows; pages if there is none
  float *page_mass;             // [keyed_from], softmax weight of each page summed over rows; or NULL: no masses at all
  float *key_mass;              // [pages - keyed_from][width], the same for each summary row
  float *mass_scratch;          // rows * 2 * pages floats if page_mass is given
} lt_attend_f32_arguments;
void lt_attend_f32(const lt_attend_f32_arguments *a);

// Pointwise functions (pointwise_f32.c).
enum { LT_NONE = 0, LT_RELU = 1, LT_SILU = 2, LT_GELU_TANH = 3, LT_SOFT_CLAMP_3 = 4 };
// x[i] = activation(x[i] + bias[i]); bias may be NULL.
void lt_bias_activate_f32(float *x, const float *bias, int64_t n, int activation);
// out[i] = a x[i] + b y[i]
void lt_combine_f32(float *out, float a, const float *x, float b, const float *y, int64_t n);

// Norms and rotation of one row (norms_f32.c).
// out = (x - mean) * rsqrt(var + eps) * (multiply + plus_one) + add
void lt_layer_norm_f32(float *out, const float *x, const float *multiply, float plus_one, const float *add, float eps, int n);
// out = x * rsqrt(mean(x^2) + eps) * weight
void lt_rms_norm_f32(float *out, const float *x, const float *weight, float eps, int n);
// out = x / max(|x|, 1e-12) * sqrt(n) * gamma, then SiLU if asked
void lt_channel_norm_f32(float *out, const float *x, const float *gamma, int silu, int n);
// Turns the pairs (2p, 2p + 1), p < pairs, in place by (cosines[p], sines[p]).
void lt_rotate_pairs_f32(float *x, const float *cosines, const float *sines, int pairs);
// Whether all numbers are finite.
int lt_all_finite_f32(const float *x, int64_t n);

// What is known of a page without reading it (selection_f32.c).
// Mean of the keys of a page [head_dim][width] with `count` tokens, and sqrt(mean |k - mean|^2).
void lt_key_statistics_f32(const float *keys, int head_dim, int width, int count, float *mean, float *dispersion);
// Mean of `rows` rows of n numbers, row r at x + r * stride.
void lt_mean_rows_f32(const float *x, ptrdiff_t stride, int rows, int n, float *mean);

// The k largest of n scores: writes slots[j] (or j, without slots) of each, by rising j, padded with -1. Equal scores go to
// the lower j. Entries with slots[j] < 0 or a score of -inf are never taken; forced ones (forced[j] != 0) before all
// others; NaN counts as the largest. `slots` and `forced` may be NULL; `scratch` holds n numbers.
void lt_top_f32(const float *scores, const int32_t *slots, const int32_t *forced, int n, int k, uint32_t *scratch, int32_t *out);
