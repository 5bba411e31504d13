#include "simd.h"

int lt_level(void) {
#if defined(__x86_64__)
  static int level = -1;  // racing threads store the same number
  int known = __atomic_load_n(&level, __ATOMIC_RELAXED);
  if (known >= 0) return known;
  __builtin_cpu_init();
  int found = LT_BASELINE;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found = LT_AVX2;
  if (found == LT_AVX2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    found = LT_AVX512;
  __atomic_store_n(&level, found, __ATOMIC_RELAXED);
  return found;
#else
  return LT_BASELINE;
#endif
}

const char *lt_simd_level(void) {
  switch (lt_level()) {
    case LT_AVX512: return "avx512";
    case LT_AVX2: return "avx2";
    default: return "baseline";
  }
}
