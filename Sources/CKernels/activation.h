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

LT_INLINE lt_v16 lt_activate(lt_v16 x, int activation) {
  switch (activation) {
    case LT_RELU: return lt_select(x < 0.0f, lt_splat(0), x);
    case LT_SILU: return x / (1.0f + lt_exp(-x));
    // 0.5 (1 + tanh y) = 1 / (1 + e^-2y)
    case LT_GELU_TANH: return x / (1.0f + lt_exp(-1.5957691216057308f * (x + 0.044715f * x * x * x)));
    case LT_SOFT_CLAMP_3: return 3.0f * lt_tanh(x * (1.0f / 3.0f));
    default: return x;
  }
}
