// Attention over bf16 and int8 pages: what happens before and after a tile's pages.
//
// Softmax runs in base 2: logits are |scale| * log2(e) times the products. A row's shift is not its running maximum but
// follows it when that runs away by more than 8: softmax is the same under any shift, and one that seldom moves spares the
// search for the largest of every row and page. Shifts are whole numbers, so that what was computed under an older one is
// brought to the new one without rounding.
#pragma once
#include "attention.h"

enum { LT_BLOCK = 2 };
#define LT_SLACK 8.0f
#define LT_NEVER -3.0e38f
#define LT_LOG2E 1.44269504088896341f
#define LT_LN2 0.693147180559945309f

typedef struct {
  uint16_t *queries;  // [rows][head_dim]
  uint8_t *bytes;     // [rows][quads of head_dim][4]: queries in steps of 1/127 of each row's largest, plus 128
  float *steps;       // [rows]
  float *offsets;     // [rows][64]: products of queries with the mean keys of 64 pages
  uint32_t *means;    // [head_dim / 2][64]: these mean keys
  uint16_t *weights;  // [LT_BLOCK][rows][64]
  uint16_t *pages;    // [LT_BLOCK] of values [32][channels][2], where they must be unpacked
  float *out;         // [rows][channels], not yet divided by the sum
  float *sums;        // [rows][16], of which the sum is the row's total
  float *shift;       // [rows], in base 2
  int channels;       // head_dim rounded up to 16
  float scale;        // |scale| * log2(e); the queries carry the sign
  float inverse_scale;
} lt_tile;

LT_INLINE lt_tile lt_tile_in(const lt_attend_arguments *a) {
  lt_tile t;
  const size_t rows = (size_t)a->rows;
  t.channels = lt_channels(a->head_dim);
  t.scale = fabsf(a->scale) * LT_LOG2E;
  t.inverse_scale = 1.0f / t.scale;
  float *next = a->scratch;
  t.out = next, next += rows * (size_t)t.channels;
  t.sums = next, next += rows * 16;
  t.weights = (uint16_t *)next, next += rows * 32 * LT_BLOCK;
  t.pages = (uint16_t *)next, next += LT_BLOCK * 32 * (size_t)t.channels;
  t.means = (uint32_t *)next, next += 32 * (size_t)a->head_dim;
  t.offsets = next, next += rows * 64;
  t.steps = next, next += rows;
  t.bytes = (uint8_t *)next, next += rows * (size_t)lt_quads(a->head_dim);
  t.queries = (uint16_t *)next, next += rows * (size_t)(a->head_dim / 2);
  t.shift = next;
  memset(t.out, 0, sizeof(float) * rows * (size_t)t.channels);
  memset(t.sums, 0, sizeof(float) * rows * 16);
  for (size_t r = 0; r < rows; r++) t.shift[r] = LT_NEVER;
  return t;
}

// Gives a row a new shift, also in the weights of the pages of its block that are not added yet. Seldom called.
static __attribute__((noinline, unused)) void lt_move_shift(lt_tile t, int row, float shift, int rows, int pending) {
  const float factor = exp2f(t.shift[row] - shift);
  float *out = t.out + (size_t)row * t.channels, *sums = t.sums + 16 * (size_t)row;
  for (int c = 0; c < t.channels; c++) out[c] *= factor;
  for (int c = 0; c < 16; c++) sums[c] *= factor;
  for (int i = 0; i < pending; i++) {
    uint16_t *weights = t.weights + 64 * ((size_t)i * rows + row);
    for (int j = 0; j < 64; j++) weights[j] = lt_bf16_of(lt_float_of(weights[j]) * factor);
  }
  t.shift[row] = shift;
}

LT_INLINE const float *lt_bias_of(const lt_attend_arguments *a, int page, int row) {
  const float *bias = a->biases ? a->biases[page] : NULL;
  return bias ? bias + row * a->bias_row_step : NULL;
}

// Divides by the sums; the shifts become log-sum-exp in base 2, -inf where nothing was read.
LT_INLINE void lt_finish_tile(const lt_attend_arguments *a, lt_tile t) {
  for (int r = 0; r < a->rows; r++) {
    const float total = lt_sum(lt_load(t.sums + 16 * (size_t)r));
    const float inverse = total == 0 ? 0 : 1.0f / total;
    const float *row = t.out + (size_t)r * t.channels;
    float *out = a->output + r * a->output_stride;
    int c = 0;
    for (; c + 16 <= a->head_dim; c += 16) lt_store(out + c, lt_load(row + c) * inverse);
    for (; c < a->head_dim; c++) out[c] = row[c] * inverse;
    t.shift[r] = total == 0 ? -INFINITY : t.shift[r] + log2f(total);
    if (a->log_sum_exp) a->log_sum_exp[r] = t.shift[r] * LT_LN2;
  }
  if (!a->page_mass) return;
  for (int p = 0; p < a->keyed_from; p++) {
    float mass = 0;
    for (int r = 0; r < a->rows; r++) {
      const float *part = a->mass_scratch + 2 * ((size_t)r * a->pages + p);
      if (part[0] != 0) mass += part[0] * exp2f(part[1] - t.shift[r]);
    }
    a->page_mass[p] = mass;
  }
}
