// The layout of pages, shared by those who write and those who read them.
//
// f32:  keys [head_dim][width], values [tokens][channels].
// bf16: keys in pairs of neighbouring channels, [head_dim / 2][width][2], so that one 32-bit lane holds what one pair of a
//       query meets; values in pairs of neighbouring tokens, in panels of up to 64 channels, [tokens / 2][channels][2].
// int8: keys as whole numbers of steps from each channel's mean, in fours of neighbouring channels, [head_dim / 4][width][4],
//       one 32-bit lane for four of a query. In front of them lt_key_head: the step of the page, -128 times the sum of each
//       token's numbers (what a query shifted to 0...255 adds), and the means in bf16. Values in the order of bf16 ones, behind
//       each token's step in float32, [tokens].
// Width is tokens rounded up to 16 (f32) or 8; channels are head_dim rounded up to 16; tokens of values are rounded up to 2.
#pragma once
#include "bf16.h"

enum { LT_PANEL = 64 };

LT_INLINE int lt_channels(int head_dim) { return (head_dim + 15) / 16 * 16; }
LT_INLINE int lt_value_tokens(int tokens) { return (tokens + 1) / 2 * 2; }

typedef struct {
  int32_t shifts[64];
  float step;
  float padding[15];
  uint16_t means[];  // [head_dim], up to whole cache lines; then the numbers
} lt_key_head;
LT_INLINE int lt_quads(int head_dim) { return (head_dim + 3) / 4; }
LT_INLINE size_t lt_key_head_bytes(int head_dim) { return sizeof(lt_key_head) + (size_t)(2 * head_dim + 63) / 64 * 64; }
LT_INLINE int8_t *lt_key_numbers(void *page, int head_dim) { return (int8_t *)page + lt_key_head_bytes(head_dim); }

// A bf16 number is the upper half of a float.
LT_INLINE float lt_float_of(uint16_t x) {
  const uint32_t bits = (uint32_t)x << 16;
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}
// Rounds to nearest, ties to even; NaN stays NaN.
LT_INLINE uint16_t lt_bf16_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  if (x != x) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// 16 floats rounded to bf16 in the upper halves of words.
LT_INLINE lt_u16 lt_rounded(lt_v16 x) {
  const lt_u16 bits = (lt_u16)x;
  const lt_u16 rounded = bits + 0x7FFF + (bits >> 16 & 1);
  const lt_i16 number = x == x;
  return (lt_u16)(((lt_i16)rounded & number) | (((lt_i16)bits | 0x400000) & ~number)) & 0xFFFF0000u;
}
// Words with a bf16 of x below one of y.
LT_INLINE lt_u16 lt_words_of(lt_v16 x, lt_v16 y) { return lt_rounded(x) >> 16 | lt_rounded(y); }
LT_INLINE void lt_store_words(uint32_t *p, lt_u16 x) { *(lt_u16 *)p = x; }

// Keys in float32, [head_dim][width rounded up to 16], and values, [count][channels]; padding zero.
void lt_unpack_keys(int format, const void *page, int head_dim, int tokens, int count, float *out);
void lt_unpack_values(int format, const void *page, int head_dim, int tokens, int count, float *out);
