// Block-sparse attention over bf16 pages with the AVX-512 BF16 dot product: one tile of queries over a list of pages.
//
// Rows go in groups of 6: 6 x 4 accumulators of 16 numbers, 4 vectors of keys or values and one broadcast pair of the
// query (or of two weights) fill the 32 registers, so that each loaded vector serves 6 dot products. Two pages are scored
// before their values are added, which halves the traffic of the output rows.
//
// Keys of int8 pages meet queries in int8 (VNNI), which are brought to 0...255 because one side must be unsigned; what that
// adds is known for each token. The mean key is taken out of a page's keys and comes back as one product for each row and
// page, in bf16. Values of int8 pages become bf16 in the second-level cache, once for all rows of the tile; their steps go
// into the weights.
#include "attention_bf16.h"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,avx2,fma")
#endif

// 2^x: x - floor(x) through a polynomial of degree 3 (7.5e-5, well below a step of bf16), then the exponent. -inf gives 0, NaN stays.
LT_INLINE __m512 exp2_of(__m512 x) {
  const __m512 f = _mm512_reduce_ps(x, 9);
  __m512 p = _mm512_set1_ps(0.07802452f);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.22606716f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.69583354f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.99992522f));
  return _mm512_scalef_ps(p, x);
}

LT_INLINE __m512bh pair_of(const uint16_t *p) {
  int32_t bits;
  memcpy(&bits, p, sizeof bits);
  return (__m512bh)_mm512_set1_epi32(bits);
}

// Scores of `rows` query rows and 16 * vectors keys, of which the last 8 are left out if `half`. With a `guest`, four keys of
// another page of the same width, from there on, take the place of the last four.
LT_INLINE void score_group(const uint16_t *q, int head_dim, const uint16_t *k, const uint16_t *guest, int width, __m512 s[LT_GROUP][4], int rows, int vectors, int half) {
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++)
#pragma clang loop unroll(full)
    for (int c = 0; c < vectors; c++) s[r][c] = _mm512_setzero_ps();
  for (int d = 0; d < head_dim; d += 2) {
    __m512bh key[4];
    const uint16_t *line = k + (size_t)d * width;
#pragma clang loop unroll(full)
    for (int c = 0; c < vectors - half; c++) key[c] = (__m512bh)_mm512_loadu_si512(line + 32 * c);
    __m256bh rest = (__m256bh)_mm256_setzero_si256();
    if (half) rest = (__m256bh)_mm256_loadu_si256((const __m256i *)(line + 32 * (vectors - 1)));
    if (guest) key[vectors - 1] = (__m512bh)_mm512_inserti32x4((__m512i)key[vectors - 1], _mm_loadu_si128((const __m128i *)(guest + (size_t)d * width)), 3);
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
      const __m512bh query = pair_of(q + (size_t)r * head_dim + d);
#pragma clang loop unroll(full)
      for (int c = 0; c < vectors - half; c++) s[r][c] = _mm512_dpbf16_ps(s[r][c], key[c], query);
      if (half) {
        const __m256 sum = _mm256_dpbf16_ps(_mm512_castps512_ps256(s[r][vectors - 1]), rest, (__m256bh)_mm512_castsi512_si256((__m512i)query));
        s[r][vectors - 1] = _mm512_castps256_ps512(sum);
      }
    }
  }
}

// The same for an int8 page and queries in bytes, as logits in base 2.
LT_INLINE void score_bytes(const lt_attend_arguments *a, lt_tile t, const lt_key_head *page, int index, int first, __m512 s[LT_GROUP][4], int rows, int vectors, int half) {
  const int bytes = 4 * lt_quads(a->head_dim);
  const uint8_t *q = t.bytes + (size_t)first * bytes;
  const int8_t *k = (const int8_t *)page + lt_key_head_bytes(a->head_dim);
  __m512i acc[LT_GROUP][4];
#pragma clang loop unroll(full)
  for (int c = 0; c < vectors; c++) {
    const __m512i shift = _mm512_loadu_si512(page->shifts + 16 * c);
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) acc[r][c] = shift;
  }
  for (int d = 0; d < bytes; d += 4) {
    const int8_t *line = k + (size_t)d * a->width;
    __m512i key[4];
#pragma clang loop unroll(full)
    for (int c = 0; c < vectors - half; c++) key[c] = _mm512_loadu_si512(line + 64 * c);
    __m256i rest = _mm256_setzero_si256();
    if (half) rest = _mm256_loadu_si256((const __m256i *)(line + 64 * (vectors - 1)));
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
      int32_t four;
      memcpy(&four, q + (size_t)r * bytes + d, sizeof four);
      const __m512i query = _mm512_set1_epi32(four);
#pragma clang loop unroll(full)
      for (int c = 0; c < vectors - half; c++) acc[r][c] = _mm512_dpbusd_epi32(acc[r][c], query, key[c]);
      if (half) {
        const __m256i sum = _mm256_dpbusd_epi32(_mm512_castsi512_si256(acc[r][vectors - 1]), _mm512_castsi512_si256(query), rest);
        acc[r][vectors - 1] = _mm512_castsi256_si512(sum);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++) {
    const __m512 factor = _mm512_set1_ps(t.steps[first + r] * page->step * t.scale);
    const __m512 offset = _mm512_set1_ps(t.offsets[64 * (size_t)(first + r) + index % 64] * t.scale);
#pragma clang loop unroll(full)
    for (int c = 0; c < vectors; c++) s[r][c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r][c]), factor, offset);
  }
}

// A page to be read, at its place in the block.
typedef struct {
  int index, place, count;
  const void *keys;
  const uint16_t *values;
  const float *steps;  // of the values of an int8 page; NULL for a bf16 page
  const uint16_t *guest;  // the last four keys of the page before, weighed with this one; or NULL
} page_view;

// One page and one group of rows: scores, shift, weights in bf16.
LT_INLINE void weigh_group(const lt_attend_arguments *a, lt_tile t, page_view page, int first, int rows, int vectors, int half, int hosts) {
  __m512 s[LT_GROUP][4];
  const float unit = page.steps ? 1 : t.scale;
  if (page.steps) score_bytes(a, t, page.keys, page.index, first, s, rows, vectors, half);
  else score_group(t.queries + (size_t)first * a->head_dim, a->head_dim, page.keys, hosts ? page.guest : NULL, a->width, s, rows, vectors, half);
  const int count = page.count;
  const __mmask16 last = (__mmask16)(0xFFFFu >> (16 * vectors - count));
  const __m512 none = _mm512_set1_ps(-INFINITY);
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++) {
    const int row = first + r;
    const float *bias = lt_bias_of(a, page.index, row);
    __m512 scale = _mm512_set1_ps(unit);
    float limit = (t.shift[row] + LT_SLACK) * (page.steps ? 1 : t.inverse_scale);
    if (bias) {
#pragma clang loop unroll(full)
      for (int c = 0; c < vectors; c++) {
        const __mmask16 there = c + 1 == vectors ? last : (__mmask16)0xFFFF;
        s[r][c] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(there, bias + 16 * c), _mm512_set1_ps(LT_LOG2E), _mm512_mul_ps(s[r][c], scale));
      }
      scale = _mm512_set1_ps(1);
      limit = t.shift[row] + LT_SLACK;
    }
    s[r][vectors - 1] = _mm512_mask_mov_ps(none, last, s[r][vectors - 1]);
    __m512 top = s[r][0];
#pragma clang loop unroll(full)
    for (int c = 1; c < vectors; c++) top = _mm512_max_ps(top, s[r][c]);
    float *sums = t.sums + 16 * (size_t)row;
    if (__builtin_expect(_mm512_cmp_ps_mask(top, _mm512_set1_ps(limit), _CMP_GT_OQ) != 0, 0)) {
      lt_move_shift(t, row, ceilf(_mm512_reduce_max_ps(top) * _mm512_cvtss_f32(scale)), a->rows, page.place);
    }
    const __m512 shift = _mm512_set1_ps(t.shift[row]);
    __m512 part = _mm512_setzero_ps();
#pragma clang loop unroll(full)
    for (int c = 0; c < vectors; c++) s[r][c] = exp2_of(_mm512_fmsub_ps(s[r][c], scale, shift));
    if (page.steps) {
#pragma clang loop unroll(full)
      for (int c = 0; c < vectors; c++) {
        const __mmask16 there = c + 1 == vectors ? last : (__mmask16)0xFFFF;
        part = _mm512_add_ps(part, s[r][c]);
        s[r][c] = _mm512_mul_ps(s[r][c], _mm512_maskz_loadu_ps(there, page.steps + 16 * c));
      }
    }
    uint16_t *w = t.weights + 64 * ((size_t)page.place * a->rows + row);
    const __m512 nothing = _mm512_setzero_ps();
    const __m512bh front = _mm512_cvtne2ps_pbh(vectors > 1 ? s[r][1] : nothing, s[r][0]);
    _mm512_storeu_si512(w, (__m512i)front);
    __m512bh back = (__m512bh)_mm512_setzero_si512();
    if (vectors > 2) {
      back = _mm512_cvtne2ps_pbh(vectors > 3 ? s[r][3] : nothing, s[r][2]);
      _mm512_storeu_si512(w + 32, (__m512i)back);
    }
    if (!page.steps) {
      // The sum of the weights as they were rounded, so that they add up to 1 after the division.
      const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3F80);
      part = _mm512_dpbf16_ps(part, front, ones);
      if (vectors > 2) part = _mm512_dpbf16_ps(part, back, ones);
    }
    _mm512_storeu_ps(sums, _mm512_add_ps(_mm512_loadu_ps(sums), part));
    if (__builtin_expect(a->page_mass != NULL, 0)) {
      float *mass = a->mass_scratch + 2 * ((size_t)row * a->pages + page.index);
      mass[0] = _mm512_reduce_add_ps(part);
      mass[1] = t.shift[row];
      if (hosts) {
        // The guests' share, in the last two pairs, belongs to the page before.
        const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3F80);
        const float share = _mm512_mask_reduce_add_ps(0xC000, _mm512_dpbf16_ps(_mm512_setzero_ps(), back, ones));
        mass[-2] = mass[-2] * exp2f(mass[-1] - mass[1]) + share;
        mass[-1] = mass[1];
        mass[0] -= share;
      }
    }
  }
}

// Neighbouring pairs of tokens of one page, and their weights.
typedef struct {
  const uint16_t *values;   // [pairs][channels of the panel][2], without the panel's own offset
  const uint16_t *weights;  // [rows][64]
  int first, pairs;
} token_run;
enum { RUNS = LT_BLOCK + 1 };

// Adds the weighted values of up to RUNS runs to one panel of 16 * vectors channels.
LT_INLINE void add_group(const token_run *run, int runs, size_t panel, int row, float *out, int channels, int rows, int vectors) {
  __m512 acc[LT_GROUP][4];
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++)
#pragma clang loop unroll(full)
    for (int c = 0; c < vectors; c++) acc[r][c] = _mm512_loadu_ps(out + (size_t)r * channels + 16 * c);
  for (int p = 0; p < runs; p++) {
    const uint16_t *v = run[p].values + panel + (size_t)run[p].first * 32 * vectors, *w = run[p].weights + 64 * (size_t)row;
    for (int j = 0; j < run[p].pairs; j++) {
      __m512bh value[4];
#pragma clang loop unroll(full)
      for (int c = 0; c < vectors; c++) value[c] = (__m512bh)_mm512_loadu_si512(v + 32 * (size_t)(j * vectors + c));
#pragma clang loop unroll(full)
      for (int r = 0; r < rows; r++) {
        const __m512bh weight = pair_of(w + 64 * r + 2 * j);
#pragma clang loop unroll(full)
        for (int c = 0; c < vectors; c++) acc[r][c] = _mm512_dpbf16_ps(acc[r][c], value[c], weight);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++)
#pragma clang loop unroll(full)
    for (int c = 0; c < vectors; c++) _mm512_storeu_ps(out + (size_t)r * channels + 16 * c, acc[r][c]);
}

// Calls f(..., rows, n) with constants for both.
#define ROWS(rows, CALL)      \
  switch (rows) {             \
    case 1: CALL(1) break;    \
    case 2: CALL(2) break;    \
    case 3: CALL(3) break;    \
    case 4: CALL(4) break;    \
    case 5: CALL(5) break;    \
    default: CALL(6)          \
  }

#define WEIGH(name, vectors, half)                                                                                        \
  static void name(const lt_attend_arguments *a, lt_tile t, page_view page, int first, int rows) {     \
    ROWS(rows, WEIGH_CALL_##vectors##_##half)                                                                             \
  }
#define WEIGH_CALL_1_1(n) weigh_group(a, t, page, first, n, 1, 1, 0);
#define WEIGH_CALL_1_0(n) weigh_group(a, t, page, first, n, 1, 0, 0);
#define WEIGH_CALL_2_1(n) weigh_group(a, t, page, first, n, 2, 1, 0);
#define WEIGH_CALL_2_0(n) weigh_group(a, t, page, first, n, 2, 0, 0);
#define WEIGH_CALL_3_1(n) weigh_group(a, t, page, first, n, 3, 1, 0);
#define WEIGH_CALL_3_0(n) weigh_group(a, t, page, first, n, 3, 0, 0);
#define WEIGH_CALL_4_1(n) weigh_group(a, t, page, first, n, 4, 1, 0);
#define WEIGH_CALL_4_0(n) weigh_group(a, t, page, first, n, 4, 0, 0);
WEIGH(weigh_8, 1, 1)
WEIGH(weigh_16, 1, 0)
WEIGH(weigh_24, 2, 1)
WEIGH(weigh_32, 2, 0)
WEIGH(weigh_40, 3, 1)
WEIGH(weigh_48, 3, 0)
WEIGH(weigh_56, 4, 1)
WEIGH(weigh_64, 4, 0)

#define WEIGH_CALL_host(n) weigh_group(a, t, page, first, n, 4, 0, 1);
static void weigh_host(const lt_attend_arguments *a, lt_tile t, page_view page, int first, int rows) {
  ROWS(rows, WEIGH_CALL_host)
}

static void weigh(const lt_attend_arguments *a, lt_tile t, page_view page, int first, int rows) {
  if (page.guest) {
    weigh_host(a, t, page, first, rows);
    return;
  }
  switch ((page.count + 7) / 8) {
    case 1: weigh_8(a, t, page, first, rows); break;
    case 2: weigh_16(a, t, page, first, rows); break;
    case 3: weigh_24(a, t, page, first, rows); break;
    case 4: weigh_32(a, t, page, first, rows); break;
    case 5: weigh_40(a, t, page, first, rows); break;
    case 6: weigh_48(a, t, page, first, rows); break;
    case 7: weigh_56(a, t, page, first, rows); break;
    case 8: weigh_64(a, t, page, first, rows); break;
    default: break;
  }
}

static void add_values(const token_run *run, int runs, size_t panel, int row, float *out, int channels, int rows, int vectors) {
#define ADD_1(n) add_group(run, runs, panel, row, out, channels, n, 1);
#define ADD_2(n) add_group(run, runs, panel, row, out, channels, n, 2);
#define ADD_3(n) add_group(run, runs, panel, row, out, channels, n, 3);
#define ADD_4(n) add_group(run, runs, panel, row, out, channels, n, 4);
  switch (vectors) {
    case 1: ROWS(rows, ADD_1) break;
    case 2: ROWS(rows, ADD_2) break;
    case 3: ROWS(rows, ADD_3) break;
    default: ROWS(rows, ADD_4)
  }
}

// Rounds the queries to bf16, with the sign of the scale.
static void round_queries(const lt_attend_arguments *a, lt_tile t) {
  const __m512 sign = _mm512_set1_ps(a->scale < 0 ? -1.0f : 1.0f);
  for (int r = 0; r < a->rows; r++) {
    const float *q = a->queries + r * a->query_stride;
    uint16_t *out = t.queries + (size_t)r * a->head_dim;
    for (int d = 0; d < a->head_dim; d += 16) {
      const __mmask16 there = (__mmask16)(a->head_dim - d >= 16 ? 0xFFFF : (1u << (a->head_dim - d)) - 1);
      const __m512 x = _mm512_mul_ps(_mm512_maskz_loadu_ps(there, q + d), sign);
      _mm256_mask_storeu_epi16(out + d, there, (__m256i)_mm512_cvtneps_pbh(x));
    }
  }
}

// The weight that each summary row received, summed over the rows, which are weighed anew.
static void weigh_summaries(const lt_attend_arguments *a, lt_tile t) {
  for (int p = a->keyed_from; p < a->pages; p++) {
    float *mass = a->key_mass + (size_t)(p - a->keyed_from) * a->width;
    memset(mass, 0, sizeof(float) * (size_t)a->width);
    const int count = a->counts[p];
    for (int r = 0; r < a->rows; r++) {
      if (t.shift[r] == -INFINITY) continue;
      const uint16_t *q = t.queries + (size_t)r * a->head_dim;
      const float *bias = lt_bias_of(a, p, r);
      for (int j = 0; j < count; j += 8) {
        __m256 s = _mm256_setzero_ps();
        const uint16_t *keys = a->keys[p];
        for (int d = 0; d < a->head_dim; d += 2) {
          const __m256bh key = (__m256bh)_mm256_loadu_si256((const __m256i *)(keys + (size_t)d * a->width + 2 * j));
          s = _mm256_dpbf16_ps(s, key, (__m256bh)_mm512_castsi512_si256((__m512i)pair_of(q + d)));
        }
        const __mmask8 there = (__mmask8)(count - j >= 8 ? 0xFF : (1u << (count - j)) - 1);
        s = _mm256_mul_ps(s, _mm256_set1_ps(t.scale));
        if (bias) s = _mm256_fmadd_ps(_mm256_maskz_loadu_ps(there, bias + j), _mm256_set1_ps(LT_LOG2E), s);
        s = _mm256_sub_ps(s, _mm256_set1_ps(t.shift[r]));
        const __m256 e = _mm512_castps512_ps256(exp2_of(_mm512_castps256_ps512(s)));
        _mm256_storeu_ps(mass + j, _mm256_mask_add_ps(_mm256_loadu_ps(mass + j), there, _mm256_loadu_ps(mass + j), e));
      }
    }
  }
}

// Asks for part i of n of a page that is read soon.
LT_INLINE void prefetch_part(const void *page, size_t bytes, int i, int n) {
  const char *line = page;
  for (size_t at = bytes * (size_t)i / (size_t)n & ~(size_t)63, end = bytes * (size_t)(i + 1) / (size_t)n; at < end; at += 64)
    _mm_prefetch(line + at, _MM_HINT_T1);
}

// Queries in bytes, from 1 to 255 with 128 for zero.
static void quantise_queries(const lt_attend_arguments *a, lt_tile t) {
  const int bytes = 4 * lt_quads(a->head_dim);
  const __m512 sign = _mm512_set1_ps(a->scale < 0 ? -1.0f : 1.0f);
  for (int r = 0; r < a->rows; r++) {
    const float *q = a->queries + r * a->query_stride;
    __m512 most = _mm512_setzero_ps();
    for (int d = 0; d < a->head_dim; d += 16) {
      const __mmask16 there = (__mmask16)(a->head_dim - d >= 16 ? 0xFFFF : (1u << (a->head_dim - d)) - 1);
      most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_maskz_loadu_ps(there, q + d)));
    }
    const float largest = _mm512_reduce_max_ps(most);
    const __m512 inverse = _mm512_mul_ps(sign, _mm512_set1_ps(largest > 0 ? 127.0f / largest : 0));
    t.steps[r] = largest / 127.0f;
    for (int d = 0; d < bytes; d += 16) {
      const __mmask16 there = (__mmask16)(a->head_dim - d >= 16 ? 0xFFFF : (1u << (a->head_dim - d)) - 1);
      const __mmask16 room = (__mmask16)(bytes - d >= 16 ? 0xFFFF : (1u << (bytes - d)) - 1);
      __m512i x = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(there, q + d), inverse));
      x = _mm512_max_epi32(_mm512_min_epi32(x, _mm512_set1_epi32(127)), _mm512_set1_epi32(-127));
      _mm_mask_storeu_epi8(t.bytes + (size_t)r * bytes + d, room, _mm512_cvtepi32_epi8(_mm512_add_epi32(x, _mm512_set1_epi32(128))));
    }
  }
}

// Products of all queries with the mean keys of the pages from `from` on, at most 64.
static void meet_means(const lt_attend_arguments *a, lt_tile t, int from) {
  const int end = a->keyed_from - from < 64 ? a->keyed_from : from + 64;
  memset(t.means, 0, 128 * (size_t)a->head_dim);
  for (int p = from; p < end; p++) {
    const lt_key_head *page = a->keys[p];
    for (int d = 0; d < a->head_dim; d += 2) t.means[(size_t)d * 32 + (p - from)] = page->means[d] | (uint32_t)page->means[d + 1] << 16;
  }
  for (int r = 0; r < a->rows; r++) {
    __m512 s[LT_GROUP][4];
    score_group(t.queries + (size_t)r * a->head_dim, a->head_dim, (const uint16_t *)t.means, NULL, 64, s, 1, 4, 0);
#pragma clang loop unroll(full)
    for (int c = 0; c < 4; c++) _mm512_storeu_ps(t.offsets + 64 * (size_t)r + 16 * c, s[0][c]);
  }
}

// Values as whole numbers, which bf16 holds exactly.
LT_INLINE void widen_values(const int8_t *numbers, int64_t n, uint16_t *out) {
  for (int64_t j = 0; j < n; j += 32) {
    const __m512 x = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(numbers + j))));
    const __m512 y = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(numbers + j + 16))));
    _mm512_storeu_si512(out + j, (__m512i)_mm512_cvtne2ps_pbh(y, x));
  }
}

static page_view view_of(const lt_attend_arguments *a, lt_tile t, int index, int place) {
  page_view page = {index, place, a->counts[index], a->keys[index], a->values[index], NULL, NULL};
  if (lt_format_of(a, index) == LT_BF16) return page;
  const int padded = lt_value_tokens(a->tokens);
  uint16_t *values = t.pages + (size_t)place * 64 * (size_t)t.channels;
  page.steps = a->values[index];
  widen_values((const int8_t *)(page.steps + padded), (int64_t)padded * t.channels, values);
  page.values = values;
  return page;
}

void lt_attend_bf16_avx512(const lt_attend_arguments *a) {
  const lt_tile t = lt_tile_in(a);
  round_queries(a, t);
  if (a->format == LT_INT8) quantise_queries(a, t);
  const int groups = (a->rows + LT_GROUP - 1) / LT_GROUP, padded = lt_value_tokens(a->tokens);
  const size_t key_bytes = (size_t)lt_key_page_bytes(a->format, a->head_dim, a->tokens);
  const size_t value_bytes = (size_t)lt_value_page_bytes(a->format, a->head_dim, a->tokens);
  const size_t page_step = 64 * (size_t)a->rows;
  for (int p = 0; p < a->pages; p += LT_BLOCK) {
    const int pages = a->pages - p < LT_BLOCK ? a->pages - p : LT_BLOCK;
    if (a->format == LT_INT8 && p % 64 == 0 && p < a->keyed_from) meet_means(a, t, p);
    // Of two pages of 60 tokens the first leaves its last four to the second, so that 7.5 vectors hold what fills 8.
    const int shares = pages == 2 && a->format == LT_BF16 && a->counts[p] == 60 && a->counts[p + 1] == 60 && p + 1 < a->keyed_from &&
                       (a->biases == NULL || (a->biases[p] == NULL && a->biases[p + 1] == NULL));
    token_run runs[RUNS];
    for (int i = 0; i < pages; i++) {
      page_view page = view_of(a, t, p + i, i);
      if (shares && i == 0) page.count = 56;
      runs[i] = (token_run){page.values, t.weights + i * page_step, 0, (page.count + 1) / 2};
      if (shares && i == 1) page.count = 64, page.guest = (const uint16_t *)a->keys[p] + 2 * 56;
      const int next = p + i + LT_BLOCK;
      for (int g = 0; g < groups; g++) {
        const int first = lt_group_start(a->rows, groups, g);
        if (next < a->pages) {
          prefetch_part(a->keys[next], key_bytes, g, groups);
          prefetch_part(a->values[next], value_bytes, g, groups);
        }
        weigh(a, t, page, first, lt_group_start(a->rows, groups, g + 1) - first);
      }
    }
    if (shares) runs[2] = (token_run){runs[0].values, runs[1].weights + 60, 28, 2};
    for (int c = 0; c < t.channels; c += LT_PANEL) {
      const int vectors = (t.channels - c < LT_PANEL ? t.channels - c : LT_PANEL) / 16;
      for (int g = 0; g < groups; g++) {
        const int first = lt_group_start(a->rows, groups, g);
        add_values(runs, pages + shares, (size_t)c * (size_t)padded, first, t.out + (size_t)first * t.channels + c, t.channels,
                   lt_group_start(a->rows, groups, g + 1) - first, vectors);
      }
    }
  }
  lt_finish_tile(a, t);
  if (a->page_mass) weigh_summaries(a, t);
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
