// Vectors of 16 bfloat16 numbers as the upper halves of 16 floats.
#pragma once
#include "simd.h"

typedef uint16_t lt_h16 __attribute__((vector_size(32), aligned(2), may_alias));
typedef uint32_t lt_u16 __attribute__((vector_size(64), aligned(4), may_alias));

LT_INLINE lt_v16 lt_load_bf16(const uint16_t *p) {
  return (lt_v16)(__builtin_convertvector(*(const lt_h16 *)p, lt_u16) << 16);
}

// Rounds to nearest, ties to even; NaN stays NaN.
LT_INLINE void lt_store_bf16(uint16_t *p, lt_v16 x) {
  const lt_u16 bits = (lt_u16)x;
  const lt_u16 rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  const lt_u16 kept = (lt_u16)(x == x);
  *(lt_h16 *)p = __builtin_convertvector((kept & rounded) | (~kept & 0x7FC0), lt_h16);
}
