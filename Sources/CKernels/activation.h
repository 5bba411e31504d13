// The pointwise functions, in vectors of 16 floats.
#pragma once
#include "simd.h"

LT_INLINE lt_v16 lt_tanh(lt_v16 x) {
  // 1 - 2 / (e^2x + 1) loses digits near zero, where x - x^3/3 + 2x^5/15 is exact to float32.
  lt_v16 square = x * x;
  lt_v16 small = x * (1.0f + square * (-0.333333333f + square * (0.133333333f - square * 0.0539682540f)));
  lt_v16 large = 1.0f - 2.0f / (lt_exp(2.0f * x) + 1.0f);
  return lt_select(square < 0.01f, small, large);
}

// 2^x for x of -126...126, to 2 units in the last place; beyond, as at the border. The polynomial is that of Cephes exp2f.
LT_INLINE lt_v16 lt_exp2_limited(lt_v16 x) {
  x = lt_min(lt_max(x, lt_splat(-126.0f)), lt_splat(126.0f));
  const lt_v16 shifted = x + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const lt_v16 r = x - (shifted - 12582912.0f);
  lt_v16 p = lt_splat(1.535336188319500e-4f);
  p = p * r + 1.339887440266574e-3f;
  p = p * r + 9.618437357674640e-3f;
  p = p * r + 5.550332471162809e-2f;
  p = p * r + 2.402264791363012e-1f;
  p = p * r + 6.931472028550421e-1f;
  p = p * r + 1.0f;
  return p * (lt_v16)(((lt_i16)shifted - 0x4B400000 + 127) << 23);
}

LT_INLINE lt_v16 lt_activate(lt_v16 x, int activation) {
  switch (activation) {
    case LT_RELU: return lt_select(x < 0.0f, lt_splat(0), x);
    case LT_SILU: return x / (1.0f + lt_exp(-x));
    // 0.5 (1 + tanh y) = 1 / (1 + e^-2y); the factors are 2 sqrt(2 / pi) log2 e, and 0.044715 of that.
    case LT_GELU_TANH: return x / (1.0f + lt_exp2_limited(-x * (2.3022081985f + 0.1029432396f * (x * x))));
    case LT_SOFT_CLAMP_3: return 3.0f * lt_tanh(x * (1.0f / 3.0f));
    default: return x;
  }
}
