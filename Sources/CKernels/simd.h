// Vectors of 16 floats and run-time dispatch, shared by the kernels.
#pragma once
#include "CKernels.h"
#include <math.h>
#include <string.h>

// The vector type is wider than the baseline's registers; it only passes between functions that are always inlined.
#pragma clang diagnostic ignored "-Wpsabi"
#pragma GCC diagnostic ignored "-Wpsabi"

typedef float lt_v16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t lt_i16 __attribute__((vector_size(64), aligned(4), may_alias));
#define LT_INLINE static inline __attribute__((always_inline))

enum { LT_BASELINE, LT_AVX2, LT_AVX512, LT_AVX512_BF16 };
int lt_level(void);

// Defines `void name params` as one of three compilations of `name##_body`, which must be LT_INLINE.
#if defined(__x86_64__)
#define LT_DISPATCH(name, params, arguments)                                                                      \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))) static void name##_avx512 params {       \
    name##_body arguments;                                                                                        \
  }                                                                                                               \
  __attribute__((target("avx2,fma"))) static void name##_avx2 params { name##_body arguments; }                   \
  static void name##_baseline params { name##_body arguments; }                                                   \
  void name params {                                                                                              \
    switch (lt_level()) {                                                                                         \
      case LT_AVX512_BF16:                                                                                        \
      case LT_AVX512: name##_avx512 arguments; break;                                                             \
      case LT_AVX2: name##_avx2 arguments; break;                                                                 \
      default: name##_baseline arguments;                                                                         \
    }                                                                                                             \
  }
#else
#define LT_DISPATCH(name, params, arguments) \
  void name params { name##_body arguments; }
#endif

LT_INLINE lt_v16 lt_load(const float *p) { return *(const lt_v16 *)p; }
LT_INLINE void lt_store(float *p, lt_v16 x) { *(lt_v16 *)p = x; }
LT_INLINE lt_v16 lt_splat(float x) { return x - (lt_v16){0}; }
LT_INLINE lt_v16 lt_select(lt_i16 mask, lt_v16 a, lt_v16 b) {
  return (lt_v16)((mask & (lt_i16)a) | (~mask & (lt_i16)b));
}
LT_INLINE lt_v16 lt_max(lt_v16 a, lt_v16 b) { return lt_select(a > b, a, b); }
LT_INLINE lt_v16 lt_min(lt_v16 a, lt_v16 b) { return lt_select(a < b, a, b); }
LT_INLINE float lt_sum(lt_v16 x) {
  float s[8];
  for (int i = 0; i < 8; i++) s[i] = x[i] + x[i + 8];
  return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}
LT_INLINE float lt_largest(lt_v16 x) {
  float m = x[0];
  for (int i = 1; i < 16; i++) m = x[i] > m ? x[i] : m;
  return m;
}

// e^x to 2 units in the last place over the float range; 0 below -87.3, and 3e38 above 88.3. NaN stays NaN.
// Cody and Waite's reduction by ln 2, then the polynomial of degree 5 of Cephes expf.
LT_INLINE lt_v16 lt_exp(lt_v16 x) {
  const lt_v16 low = lt_splat(-87.3f), high = lt_splat(88.3f);
  lt_v16 y = lt_select(x < low, low, lt_select(x > high, high, x));
  const lt_v16 magic = lt_splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  lt_v16 shifted = y * 1.44269504088896341f + magic;
  lt_v16 n = shifted - magic;
  lt_v16 r = y - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  lt_v16 p = lt_splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  lt_i16 exponent = ((lt_i16)shifted - 0x4B400000 + 127) << 23;
  lt_v16 result = p * (lt_v16)exponent;
  result = lt_select(x < low, lt_splat(0.0f), result);
  return lt_select(x == x, result, x);
}
