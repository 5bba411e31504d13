// Convolutions of few channels with the AVX-512 BF16 dot product.
//
// A block of neighbouring positions of a row is summed up in registers, 16 outputs to a vector: for every tap and pair of
// channels the vectors of weights are loaded once and meet the pair of each position. So a position's sum is made in one
// order, whatever the block. Bias, residual, activation and rounding follow while it is in registers. Three or fewer outputs
// would leave most of a vector empty: there four positions share one, which is a convolution with steps of four.
#include "convolve.h"
#include "pages.h"

enum { LT_MOST_CHANNELS = 64, LT_SHARED = 4, LT_MOST_TAPS = 18 };

// Positions that share a vector.
static int sharing(const lt_convolution_shape *s) { return !s->doubles && s->outputs * LT_SHARED <= 16 ? LT_SHARED : 1; }
// Columns of sums.
static int columns_of(const lt_convolution_shape *s) { return s->outputs * s->frames * sharing(s); }
// The same up to whole half vectors, or to whole vectors of one or three, which have no code for halves.
static int padded_of(const lt_convolution_shape *s) {
  const int n = (columns_of(s) + 7) / 8 * 8;
  return n == 24 ? 24 : (n + 15) / 16 * 16;
}
static int taps_of(const lt_convolution_shape *s) {
  return s->doubles ? 4 : sharing(s) > 1 ? s->times * 3 * (2 + LT_SHARED) : s->times * 9;
}
static int phases_of(const lt_convolution_shape *s) { return s->doubles ? 4 : 1; }

int lt_convolves(const lt_convolution_shape *s) {
  return lt_level() >= LT_AVX512_BF16 && s->inputs % 8 == 0 && s->inputs >= 8 && s->inputs <= LT_MOST_CHANNELS && s->outputs >= 1 &&
         s->outputs * s->frames <= LT_MOST_CHANNELS && taps_of(s) <= LT_MOST_TAPS && (s->times == 1 || s->times == 2) &&
         (s->doubles ? s->times == 1 : s->frames == 1);
}

int64_t lt_convolution_weights(const lt_convolution_shape *s) {
  return (int64_t)phases_of(s) * taps_of(s) * s->inputs * padded_of(s);
}
int64_t lt_convolution_biases(const lt_convolution_shape *s) { return padded_of(s); }
int64_t lt_convolution_scratch(const lt_convolution_shape *s, int width) {
  // Three rows with a border of each source frame, and a row of zeros.
  return (int64_t)(3 * s->times + 1) * (width + 2 + LT_SHARED) * s->inputs;
}

void lt_pack_convolution(const lt_convolution_shape *s, const float *weights, const float *bias, uint16_t *packed, float *packed_bias) {
  const int columns = s->outputs * s->frames, padded = padded_of(s), taps = taps_of(s), shared = sharing(s);
  memset(packed_bias, 0, sizeof(float) * (size_t)padded);
  for (int c = 0; bias && c < columns * shared; c++) packed_bias[c] = bias[c % columns];
  memset(packed, 0, sizeof(uint16_t) * (size_t)lt_convolution_weights(s));
#define WEIGHT(o, i, t, y, x) weights[((((int64_t)(o) * s->inputs + (i)) * s->times + (t)) * 3 + (y)) * 3 + (x)]
  for (int phase = 0; phase < phases_of(s); phase++) {
    for (int tap = 0; tap < taps; tap++) {
      for (int i = 0; i < s->inputs; i++) {
        uint16_t *out = packed + (((int64_t)phase * taps + tap) * s->inputs / 2 + i / 2) * padded * 2 + i % 2;
        for (int o = 0; o < columns; o++) {
          if (s->doubles) {
            // Of the nine: those that meet the same source position.
            const int py = phase / 2, px = phase % 2, ty = tap / 2, tx = tap % 2;
            const int y0 = ty == 0 ? 0 : 1 + py, y1 = ty == 0 ? py : 2, x0 = tx == 0 ? 0 : 1 + px, x1 = tx == 0 ? px : 2;
            float sum = 0;
            for (int y = y0; y <= y1; y++) for (int x = x0; x <= x1; x++) sum += WEIGHT(o, i, 0, y, x);
            out[2 * o] = lt_bf16_of(sum);
          } else {
            const int across = 2 + shared, t = tap / (3 * across), y = tap / across % 3, x = tap % across;
            for (int place = 0; place < shared; place++) {
              const int dx = x - place;
              if (dx >= 0 && dx < 3) out[2 * (place * columns + o)] = lt_bf16_of(WEIGHT(o, i, t, y, dx));
            }
          }
        }
      }
    }
  }
}

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,avx2,fma")
#endif

typedef struct {
  const uint16_t *at[LT_MOST_TAPS];  // of each tap: the first position of the row that it meets
  const uint16_t *weights;
  const float *bias;
  int taps;
  int64_t offset;                    // of the block's first position from the row's, in numbers
} lt_row_taps;

LT_INLINE __m512i pair_at(const uint16_t *p) {
  int32_t bits;
  memcpy(&bits, p, sizeof bits);
  return _mm512_set1_epi32(bits);
}

// Sums of `places` positions, `step` numbers apart, in 16 * vectors columns, of which the last 8 are missing if `half`.
LT_INLINE void sum_block(const lt_row_taps *t, __m512 *acc, int inputs, int step, int places, int vectors, int half) {
  const int whole = vectors - half, row = 32 * vectors - 16 * half;
#pragma clang loop unroll(full)
  for (int p = 0; p < places; p++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < whole; v++) acc[p * vectors + v] = _mm512_loadu_ps(t->bias + 16 * v);
    if (half) acc[p * vectors + whole] = _mm512_castps256_ps512(_mm256_loadu_ps(t->bias + 16 * whole));
  }
  const uint16_t *w = t->weights;
  for (int tap = 0; tap < t->taps; tap++) {
    const uint16_t *x = t->at[tap] + t->offset;
#pragma clang loop unroll_count(2)
    for (int c = 0; c < inputs; c += 2, w += row) {
      __m512bh weight[4];
#pragma clang loop unroll(full)
      for (int v = 0; v < whole; v++) weight[v] = (__m512bh)_mm512_loadu_si512(w + 32 * v);
      __m256bh rest = (__m256bh)_mm256_setzero_si256();
      if (half) rest = (__m256bh)_mm256_loadu_si256((const __m256i *)(w + 32 * whole));
#pragma clang loop unroll(full)
      for (int p = 0; p < places; p++) {
        const __m512i pair = pair_at(x + p * step + c);
#pragma clang loop unroll(full)
        for (int v = 0; v < whole; v++) acc[p * vectors + v] = _mm512_dpbf16_ps(acc[p * vectors + v], weight[v], (__m512bh)pair);
        if (half) {
          const __m256 sum = _mm256_dpbf16_ps(_mm512_castps512_ps256(acc[p * vectors + whole]), rest, (__m256bh)_mm512_castsi512_si256(pair));
          acc[p * vectors + whole] = _mm512_castps256_ps512(sum);
        }
      }
    }
  }
}

// Where the numbers of a block go: column c of place p to frame c / outputs, at first + p * step + c % outputs.
typedef struct {
  int64_t first, step, frame_stride;
  int columns, outputs;
} lt_block_places;

LT_INLINE __m512 finished(const lt_convolve_arguments *a, __m512 x, int64_t at, int n) {
  const __mmask16 there = (__mmask16)(n >= 16 ? 0xFFFF : (1u << n) - 1);
  if (a->residual) {
    const __m256i halves = _mm256_maskz_loadu_epi16(there, a->residual + at);
    x = _mm512_add_ps(x, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16)));
  }
  // NaN stays NaN: the second operand is what comes out then.
  return a->relu ? _mm512_max_ps(_mm512_setzero_ps(), x) : x;
}

LT_INLINE void store(const lt_convolve_arguments *a, __m512 x, int64_t at, int n) {
  const __mmask16 there = (__mmask16)(n >= 16 ? 0xFFFF : (1u << n) - 1);
  x = finished(a, x, at, n);
  if (a->out_bf16) _mm256_mask_storeu_epi16(a->out_bf16 + at, there, (__m256i)_mm512_cvtneps_pbh(x));
  else _mm512_mask_storeu_ps(a->out + at, there, x);
}

LT_INLINE void store_block(const lt_convolve_arguments *a, const __m512 *acc, const lt_block_places *b, int places, int vectors) {
#pragma clang loop unroll(full)
  for (int p = 0; p < places; p++) {
    const int64_t at = b->first + p * b->step;
    if (b->columns == b->outputs) {
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) store(a, acc[p * vectors + v], at + 16 * v, b->columns - 16 * v);
    } else {
      float sums[LT_MOST_CHANNELS];
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) _mm512_storeu_ps(sums + 16 * v, acc[p * vectors + v]);
      for (int c = 0; c < b->columns; c += b->outputs) {
        const int64_t frame = at + c / b->outputs * b->frame_stride;
        for (int o = 0; o < b->outputs; o += 16) {
          const int n = b->outputs - o < 16 ? b->outputs - o : 16;
          store(a, _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), sums + c + o), frame + o, n);
        }
      }
    }
  }
}

// A row of `count` positions in blocks of `places`; the last block goes back over the one before it. Rows shorter than a
// block go one by one.
LT_INLINE void row_blocks(const lt_convolve_arguments *a, lt_row_taps t, lt_block_places b, int count, int inputs, int step, int places, int vectors, int half) {
  __m512 acc[LT_MOST_CHANNELS];
  const int64_t first = b.first;
  if (count < places) {
    for (int x = 0; x < count; x++) {
      t.offset = (int64_t)x * step;
      b.first = first + x * b.step;
      sum_block(&t, acc, inputs, step, 1, vectors, half);
      store_block(a, acc, &b, 1, vectors);
    }
    return;
  }
  for (int x = 0; x < count; x += places) {
    const int start = x + places > count ? count - places : x;
    t.offset = (int64_t)start * step;
    b.first = first + start * b.step;
    sum_block(&t, acc, inputs, step, places, vectors, half);
    store_block(a, acc, &b, places, vectors);
  }
}

// Code for the usual numbers of channels, as constants. Under a sanitizer, which takes minutes for all of it, the code for any
// number alone.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LT_ANY_CHANNELS_ALONE
#endif
#endif
#ifdef LT_ANY_CHANNELS_ALONE
#define USUAL(n, shared, places, vectors, half)
#else
#define USUAL(n, shared, places, vectors, half) \
  case n: row_blocks(a, t, b, count, n, n * shared, places, vectors, half); break;
#endif
#define ROWS(name, shared, places, vectors, half)                                                                       \
  static void name(const lt_convolve_arguments *a, lt_row_taps t, lt_block_places b, int count) {                       \
    const int n = a->shape.inputs;                                                                                      \
    switch (n) {                                                                                                        \
      USUAL(16, shared, places, vectors, half)                                                                          \
      USUAL(24, shared, places, vectors, half)                                                                          \
      USUAL(48, shared, places, vectors, half)                                                                          \
      USUAL(64, shared, places, vectors, half)                                                                          \
      default: row_blocks(a, t, b, count, n, n * shared, places, vectors, half);                                        \
    }                                                                                                                   \
  }
ROWS(rows_shared, LT_SHARED, 16, 1, 0)
ROWS(rows_16, 1, 16, 1, 0)
ROWS(rows_24, 1, 12, 2, 1)
ROWS(rows_32, 1, 12, 2, 0)
ROWS(rows_48, 1, 8, 3, 0)
ROWS(rows_64, 1, 6, 4, 0)

void lt_convolve(const lt_convolve_arguments *a) {
  const lt_convolution_shape *s = &a->shape;
  const int shared = sharing(s), padded = padded_of(s), taps = taps_of(s), inputs = s->inputs;
  // A place more to the right than the border asks for, so that the last four positions may be fewer.
  const int64_t line = (int64_t)(a->width + 2 + LT_SHARED) * inputs;
  uint16_t *zeros = a->scratch;
  memset(zeros, 0, sizeof(uint16_t) * (size_t)line);
  // Rows are copied once each, into places by turns: row y of frame t into place (y + 3) % 3.
#define PLACE(t, y) (a->scratch + line * (1 + 3 * (t) + ((y) + 3) % 3))
  for (int t = 0; t < s->times; t++)
    for (int i = 0; i < 3; i++) {
      memset(PLACE(t, i), 0, sizeof(uint16_t) * (size_t)inputs);
      memset(PLACE(t, i) + (int64_t)(a->width + 1) * inputs, 0, sizeof(uint16_t) * (size_t)(line - (int64_t)(a->width + 1) * inputs));
    }
  int copied = a->first_row - 1;
  for (int y = a->first_row; y < a->first_row + a->rows; y++) {
    for (; copied <= y + 1; copied++) {
      if (copied < 0 || copied >= a->height) continue;
      for (int t = 0; t < s->times; t++)
        memcpy(PLACE(t, copied) + inputs, a->maps[t] + (int64_t)copied * a->width * inputs, sizeof(uint16_t) * (size_t)a->width * (size_t)inputs);
    }
#define LINE(t, row) ((row) < 0 || (row) >= a->height ? zeros : PLACE(t, row))
    lt_row_taps taken = {.bias = a->bias, .taps = taps};
    lt_block_places b = {.frame_stride = a->frame_stride, .columns = columns_of(s), .outputs = s->outputs};
    if (!s->doubles) {
      const int across = 2 + shared;
      for (int tap = 0; tap < taps; tap++)
        taken.at[tap] = LINE(tap / (3 * across), y + tap / across % 3 - 1) + (int64_t)(tap % across) * inputs;
      taken.weights = a->weights;
      b.first = (int64_t)y * a->width * s->outputs;
      b.step = s->outputs * shared;
      if (shared > 1) {
        b.outputs = b.columns;
        rows_shared(a, taken, b, a->width / shared);
        // What is left is stored by its own number of columns.
        const int left = a->width % shared;
        if (left) {
          const int64_t done = a->width / shared * shared;
          for (int tap = 0; tap < taps; tap++) taken.at[tap] += done * inputs;
          b.first += done * s->outputs;
          b.columns = b.outputs = left * s->outputs;
          rows_shared(a, taken, b, 1);
        }
        continue;
      }
    }
    for (int phase = 0; phase < phases_of(s); phase++) {
      if (s->doubles) {
        const int py = phase / 2, px = phase % 2;
        for (int tap = 0; tap < taps; tap++)
          taken.at[tap] = LINE(0, y + py - 1 + tap / 2) + (int64_t)(px + tap % 2) * inputs;
        taken.weights = a->weights + (int64_t)phase * taps * inputs * padded;
        b.first = ((int64_t)(2 * y + py) * 2 * a->width + px) * s->outputs;
        b.step = 2 * s->outputs;
      }
      switch (padded) {
        case 16: rows_16(a, taken, b, a->width); break;
        case 24: rows_24(a, taken, b, a->width); break;
        case 32: rows_32(a, taken, b, a->width); break;
        case 48: rows_48(a, taken, b, a->width); break;
        default: rows_64(a, taken, b, a->width);
      }
    }
  }
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
void lt_convolve(const lt_convolve_arguments *a) { (void)a; }
#endif
