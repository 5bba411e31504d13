// Block-sparse attention in float32: one tile of queries over a list of pages, one online softmax. Pages of other formats
// are unpacked one by one, which is shared by all rows of the tile.
//
// Keys are stored [head_dim][width], so that the scores of a page are sums of (one query number) x (a vector of keys);
// values [count][value_stride], so that the output is a sum of (one weight) x (a vector of value channels). Query rows go
// in groups of 6: 6 x 4 accumulators, 4 loads, and the broadcasts from memory fill the 32 vector registers.
#include "attention.h"

LT_INLINE void scores(const float *q, ptrdiff_t stride, int head_dim, const float *k, int width, float *s, int rows, int vectors) {
  lt_v16 acc[LT_GROUP][4];
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < vectors; c++) acc[r][c] = lt_splat(0);
  for (int d = 0; d < head_dim; d++) {
    lt_v16 key[4];
    for (int c = 0; c < vectors; c++) key[c] = lt_load(k + (size_t)d * width + 16 * c);
    for (int r = 0; r < rows; r++) {
      lt_v16 query = lt_splat(q[r * stride + d]);
      for (int c = 0; c < vectors; c++) acc[r][c] += query * key[c];
    }
  }
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < vectors; c++) lt_store(s + 64 * r + 16 * c, acc[r][c]);
}

LT_INLINE void add_values(const float *p, const float *v, int value_stride, int count, float *o, int rows, int vectors) {
  lt_v16 acc[LT_GROUP][4];
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < vectors; c++) acc[r][c] = lt_load(o + (size_t)r * value_stride + 16 * c);
  for (int j = 0; j < count; j++) {
    lt_v16 value[4];
    for (int c = 0; c < vectors; c++) value[c] = lt_load(v + (size_t)j * value_stride + 16 * c);
    for (int r = 0; r < rows; r++) {
      lt_v16 weight = lt_splat(p[64 * r + j]);
      for (int c = 0; c < vectors; c++) acc[r][c] += weight * value[c];
    }
  }
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < vectors; c++) lt_store(o + (size_t)r * value_stride + 16 * c, acc[r][c]);
}

// Constant extents let the compiler keep the accumulators in registers.
#define ROWS(CALL)         \
  switch (rows) {          \
    case 1: CALL(1) break; \
    case 2: CALL(2) break; \
    case 3: CALL(3) break; \
    case 4: CALL(4) break; \
    case 5: CALL(5) break; \
    default: CALL(6)       \
  }

LT_INLINE void scores_of(const float *q, ptrdiff_t stride, int head_dim, const float *k, int width, float *s, int rows) {
#define SCORES_1(n) scores(q, stride, head_dim, k, width, s, n, 1);
#define SCORES_2(n) scores(q, stride, head_dim, k, width, s, n, 2);
#define SCORES_3(n) scores(q, stride, head_dim, k, width, s, n, 3);
#define SCORES_4(n) scores(q, stride, head_dim, k, width, s, n, 4);
  switch (width) {
    case 16: ROWS(SCORES_1) break;
    case 32: ROWS(SCORES_2) break;
    case 48: ROWS(SCORES_3) break;
    default: ROWS(SCORES_4)
  }
}

LT_INLINE void add_values_of(const float *p, const float *v, int value_stride, int count, float *o, int rows) {
#define ADD_1(n) add_values(p, v + c, value_stride, count, o + c, n, 1);
#define ADD_4(n) add_values(p, v + c, value_stride, count, o + c, n, 4);
  int c = 0;
  for (; c + 64 <= value_stride; c += 64) ROWS(ADD_4)
  for (; c < value_stride; c += 16) ROWS(ADD_1)
}

// Keys [head_dim][width rounded up to 16] and values [count][channels] of a page, in `page` unless they lie so already.
LT_INLINE const float *keys_of(const lt_attend_arguments *a, int p, float *page) {
  const int format = lt_format_of(a, p);
  if (format == LT_F32) return a->keys[p];
  lt_unpack_keys(format, a->keys[p], a->head_dim, a->tokens, a->counts[p], page);
  return page;
}
LT_INLINE const float *values_of(const lt_attend_arguments *a, int p, float *page) {
  const int format = lt_format_of(a, p);
  if (format == LT_F32) return a->values[p];
  page += (size_t)a->head_dim * 64;
  lt_unpack_values(format, a->values[p], a->head_dim, a->tokens, a->counts[p], page);
  return page;
}

// Sum over rows of the weights that each page received: a page's part of a row's sum was `sums[0]` under the maximum
// `sums[1]`. Summary rows are weighed anew, one by one.
LT_INLINE void masses(const lt_attend_arguments *a, float *weight, const float *lse, float *page) {
  const int width = (a->width + 15) / 16 * 16;
  for (int p = 0; p < a->keyed_from; p++) {
    float mass = 0;
    for (int r = 0; r < a->rows; r++) {
      const float *sums = a->mass_scratch + 2 * ((size_t)r * a->pages + p);
      if (sums[0] != 0) mass += sums[0] * expf(sums[1] - lse[r]);
    }
    a->page_mass[p] = mass;
  }
  for (int p = a->keyed_from; p < a->pages; p++) {
    float *mass = a->key_mass + (size_t)(p - a->keyed_from) * a->width;
    const float *bias = a->biases ? a->biases[p] : NULL;
    memset(mass, 0, sizeof(float) * (size_t)a->width);
    const float *keys = keys_of(a, p, page);
    for (int r = 0; r < a->rows; r++) {
      if (lse[r] == -INFINITY) continue;
      scores_of(a->queries + r * a->query_stride, a->query_stride, a->head_dim, keys, width, weight, 1);
      for (int j = 0; j < a->counts[p]; j++)
        weight[j] = weight[j] * a->scale + (bias ? bias[j + r * a->bias_row_step] : 0) - lse[r];
      for (int j = a->counts[p]; j < width; j++) weight[j] = -INFINITY;
      for (int j = 0; j < width; j += 16) lt_store(weight + j, lt_exp(lt_load(weight + j)));
      for (int j = 0; j < a->counts[p]; j++) mass[j] += weight[j];
    }
  }
}

LT_INLINE void lt_attend_f32_body(const lt_attend_arguments *a) {
  const int rows = a->rows, stride = lt_channels(a->head_dim), width = (a->width + 15) / 16 * 16;
  const int groups = (rows + LT_GROUP - 1) / LT_GROUP;
  float *out = a->scratch;                       // [rows][value_stride], not yet divided by the sum
  float *weight = out + (size_t)rows * stride;   // [rows][64]
  float *highest = weight + (size_t)rows * 64;   // [rows]
  float *total = highest + rows;                 // [rows]
  float *page = total + rows;                    // an unpacked page: [head_dim][64] and [64][value_stride]
  memset(out, 0, sizeof(float) * (size_t)rows * stride);
  for (int r = 0; r < rows; r++) {
    highest[r] = -INFINITY;
    total[r] = 0;
  }
  for (int p = 0; p < a->pages; p++) {
    const int count = a->counts[p];
    const float *keys = keys_of(a, p, page), *values = values_of(a, p, page);
    for (int g = 0; g < groups; g++) {
      const int r = lt_group_start(rows, groups, g), group = lt_group_start(rows, groups, g + 1) - r;
      scores_of(a->queries + r * a->query_stride, a->query_stride, a->head_dim, keys, width, weight + 64 * (size_t)r, group);
    }
    for (int r = 0; r < rows; r++) {
      float *w = weight + 64 * (size_t)r;
      const float *bias = a->biases ? a->biases[p] : NULL;
      if (bias) {
        bias += r * a->bias_row_step;
        for (int j = 0; j < count; j++) w[j] = w[j] * a->scale + bias[j];
      } else {
        for (int j = 0; j < width; j += 16) lt_store(w + j, lt_load(w + j) * a->scale);
      }
      for (int j = count; j < width; j++) w[j] = -INFINITY;
      lt_v16 top = lt_load(w);
      for (int j = 16; j < width; j += 16) top = lt_max(top, lt_load(w + j));
      float m = lt_largest(top);
      // A NaN score must not be lost by the comparisons of the maximum: it stays in w and reaches the sum.
      m = m > highest[r] ? m : highest[r];
      // Without any finite score yet, weights are exp(-inf) = 0.
      const float shift = m == -INFINITY ? 0 : m;
      lt_v16 sum = lt_splat(0);
      for (int j = 0; j < width; j += 16) {
        lt_v16 e = lt_exp(lt_load(w + j) - shift);
        lt_store(w + j, e);
        sum += e;
      }
      if (m > highest[r]) {
        float factor = highest[r] == -INFINITY ? 0 : expf(highest[r] - m);
        total[r] *= factor;
        for (int c = 0; c < stride; c += 16) lt_store(out + (size_t)r * stride + c, lt_load(out + (size_t)r * stride + c) * factor);
        highest[r] = m;
      }
      const float part = lt_sum(sum);
      total[r] += part;
      if (a->page_mass) {
        float *sums = a->mass_scratch + 2 * ((size_t)r * a->pages + p);
        sums[0] = part;
        sums[1] = shift;
      }
    }
    for (int g = 0; g < groups; g++) {
      const int r = lt_group_start(rows, groups, g), group = lt_group_start(rows, groups, g + 1) - r;
      add_values_of(weight + 64 * (size_t)r, values, stride, count, out + (size_t)r * stride, group);
    }
  }
  for (int r = 0; r < rows; r++) {
    float inverse = total[r] == 0 ? 0 : 1.0f / total[r];
    for (int c = 0; c < a->head_dim; c++) a->output[r * a->output_stride + c] = out[(size_t)r * stride + c] * inverse;
    highest[r] = total[r] == 0 ? -INFINITY : highest[r] + logf(total[r]);  // from here on: log-sum-exp
  }
  if (a->log_sum_exp) memcpy(a->log_sum_exp, highest, sizeof(float) * (size_t)rows);
  if (a->page_mass) masses(a, weight, highest, page);
}
LT_DISPATCH(lt_attend_f32, (const lt_attend_arguments *a), (a))
