// SIMD kernels in C, one file per operation. Each is written once in vectors of 16 floats and compiled for AVX-512, AVX2
// and the baseline, some by hand for AVX-512 BF16; the level is chosen at run time. None allocates memory or starts a thread.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "epilogue.h"
#include "winograd.h"
#include "convolve.h"

// Which code path the processor gets: "avx512-bf16", "avx512", "avx2" or "baseline". The environment variable
// LONGTAKE_SIMD names a lower one, for tests.
const char *lt_simd_level(void);

// Tells the processor that a loop waits for another thread.
static inline void lt_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// How the numbers of a page are kept (pages.h has the layouts).
enum { LT_F32 = 0, LT_BF16 = 1, LT_INT8 = 2 };
// Tokens that a page of at most `tokens`, 64 or fewer, takes up; bytes of its keys and of its values, whole cache lines.
int lt_page_width(int format, int tokens);
int64_t lt_key_page_bytes(int format, int head_dim, int tokens);
int64_t lt_value_page_bytes(int format, int head_dim, int tokens);

// Writes one page (pages.c): norm, rotation, statistics and conversion on the way.
typedef struct {
  int format;
  int head_dim;                 // even
  int tokens;                   // of a full page
  int count;                    // of this one
  const float *keys;            // one head of raw projections: row t at keys + t * stride, head_dim numbers
  const float *values;
  ptrdiff_t stride;
  const float *inverse;         // [count], 1 / rms of each whole row, with norm [head_dim]; or NULL: no norm
  const float *norm;
  const float *cosines;         // [count][head_dim / 2] and sines; or NULL: no rotation
  const float *sines;
  float *temporal;              // [count][temporal_channels], leading channels before the rotation; or NULL
  int temporal_channels;
  void *key_page;
  void *value_page;
  float *mean_key;              // [head_dim] and dispersion, as after the rotation; or NULL
  float *dispersion;
  float *scratch;               // 64 * (head_dim rounded up to 16) floats
} lt_write_page_arguments;
void lt_write_page(const lt_write_page_arguments *a);

// Turns the leading channels of a page's keys anew, from their unrotated originals.
typedef struct {
  int format;
  int head_dim;
  int tokens;
  int count;
  const float *temporal;        // [count][temporal_channels]
  int temporal_channels;
  int tokens_per_frame;
  const float *cosines;         // [frames][temporal_channels / 2], row 0 being that of the page's first frame
  const float *sines;
  void *key_page;
  float *mean_key;              // [head_dim]
  float *dispersion;
  float *scratch;               // 2 * 64 * (head_dim rounded up to 16) floats
} lt_turn_page_arguments;
void lt_turn_page(const lt_turn_page_arguments *a);

// One tile of queries over a list of key and value pages, with one online softmax. Pages below `keyed_from` are read token
// by token; those from there on hold one summary row per column, such as centroids of pages.
typedef struct {
  int format;                   // of the pages; summary rows are LT_BF16 where pages are LT_INT8
  const float *queries;         // row r at queries + r * query_stride, head_dim numbers
  ptrdiff_t query_stride;
  int rows;                     // query rows of this tile, any number from 1
  int head_dim;                 // even
  float scale;                  // logit = scale * q.k + bias
  const void *const *keys;      // [pages]
  const void *const *values;    // [pages]
  const float *const *biases;   // [pages] or NULL, entries may be NULL; of key j for row r: biases[p][j + r * bias_row_step]
  ptrdiff_t bias_row_step;
  const int32_t *counts;        // [pages], keys in each page
  int pages;
  int tokens;                   // of a full page
  int width;                    // lt_page_width of the tokens
  float *output;                // row r at output + r * output_stride, head_dim numbers
  ptrdiff_t output_stride;
  float *scratch;               // lt_attend_scratch floats, 64-byte aligned
  float *log_sum_exp;           // [rows], natural logarithm, -inf for no keys; or NULL
  int keyed_from;               // first page of summary rows; pages if there is none
  float *page_mass;             // [keyed_from], softmax weight of each page summed over rows; or NULL: no masses at all
  float *key_mass;              // [pages - keyed_from][width], the same for each summary row
  float *mass_scratch;          // rows * 2 * pages floats if page_mass is given
} lt_attend_arguments;
void lt_attend(const lt_attend_arguments *a);
int64_t lt_attend_scratch(int format, int rows, int head_dim);

// Pointwise functions (pointwise_f32.c).
enum { LT_NONE = 0, LT_RELU = 1, LT_SILU = 2, LT_GELU_TANH = 3, LT_SOFT_CLAMP_3 = 4 };
// x[i] = activation(x[i] + bias[i]); bias may be NULL.
void lt_bias_activate_f32(float *x, const float *bias, int64_t n, int activation);
// out[i] = 255 x[i], limited to 0...255 and truncated; wrong: whether there is a NaN or an infinity.
void lt_pixels_of_f32(uint8_t *out, const float *x, int64_t n, int32_t *wrong);
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
// out[r] = rsqrt(mean(x^2) + eps) of row r at x + r * stride
void lt_inverse_rms_f32(float *out, const float *x, ptrdiff_t stride, int rows, float eps, int n);
// Whether all numbers are finite.
int lt_all_finite_f32(const float *x, int64_t n);

// What is known of a page without reading it (selection_f32.c).
// Mean of `rows` rows of n numbers, row r at x + r * stride.
void lt_mean_rows_f32(const float *x, ptrdiff_t stride, int rows, int n, float *mean);

// The k largest of n scores: writes slots[j] (or j, without slots) of each, by rising j, padded with -1. Equal scores go to
// the lower j. Entries with slots[j] < 0 or a score of -inf are never taken; forced ones (forced[j] != 0) before all
// others; NaN counts as the largest. `slots` and `forced` may be NULL; `scratch` holds n numbers.
void lt_top_f32(const float *scores, const int32_t *slots, const int32_t *forced, int n, int k, uint32_t *scratch, int32_t *out);

// Gives the system the pages that the C library's allocator holds and nobody uses (allocator.c); does nothing where the library
// has no call for it.
void lt_return_free_memory(void);
