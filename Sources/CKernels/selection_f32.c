// What a selector needs of pages and scores, in float32: means, and the largest of a row.
#include "simd.h"

LT_INLINE void lt_mean_rows_f32_body(const float *x, ptrdiff_t stride, int rows, int n, float *mean) {
  int c = 0;
  for (; c + 16 <= n; c += 16) {
    lt_v16 acc = lt_splat(0);
    for (int r = 0; r < rows; r++) acc += lt_load(x + r * stride + c);
    lt_store(mean + c, acc / (float)rows);
  }
  for (; c < n; c++) {
    float acc = 0;
    for (int r = 0; r < rows; r++) acc += x[r * stride + c];
    mean[c] = acc / (float)rows;
  }
}
LT_DISPATCH(lt_mean_rows_f32, (const float *x, ptrdiff_t stride, int rows, int n, float *mean), (x, stride, rows, n, mean))

enum { ABSENT = 0 };

// A number that orders as the score does, above ABSENT unless the entry may not be taken.
static uint32_t order_of(float score, int present, int forced) {
  if (!present) return ABSENT;
  if (forced || score != score) return UINT32_MAX;
  if (score == -INFINITY) return ABSENT;
  score += 0.0f;  // -0 equals 0
  uint32_t bits;
  memcpy(&bits, &score, sizeof bits);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

void lt_top_f32(const float *scores, const int32_t *slots, const int32_t *forced, int n, int k, uint32_t *scratch, int32_t *out) {
  int present = 0;
  for (int j = 0; j < n; j++) {
    scratch[j] = order_of(scores[j], !slots || slots[j] >= 0, forced && forced[j]);
    present += scratch[j] != ABSENT;
  }
  // The k-th largest number, digit by digit from the top; `equal` of those that equal it are to be taken.
  uint32_t threshold = 1, mask = 0;
  int equal = present;
  if (present > k) {
    threshold = 0;
    equal = k;
    for (int shift = 24; shift >= 0; shift -= 8) {
      int histogram[256] = {0};
      for (int j = 0; j < n; j++)
        if (scratch[j] != ABSENT && (scratch[j] & mask) == threshold) histogram[scratch[j] >> shift & 255]++;
      int digit = 255;
      while (histogram[digit] < equal) equal -= histogram[digit--];
      threshold |= (uint32_t)digit << shift;
      mask |= 255u << shift;
    }
  }
  int taken = 0;
  for (int j = 0; j < n && taken < k; j++) {
    if (scratch[j] == ABSENT || scratch[j] < threshold) continue;
    if (present > k && scratch[j] == threshold && equal-- <= 0) continue;
    out[taken++] = slots ? slots[j] : j;
  }
  while (taken < k) out[taken++] = -1;
}
