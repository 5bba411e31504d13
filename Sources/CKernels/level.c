#include "simd.h"
#include <stdlib.h>

static const char *const names[] = {"baseline", "avx2", "avx512", "avx512-bf16"};

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
  if (found == LT_AVX512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni")) found = LT_AVX512_BF16;
  const char *wanted = getenv("LONGTAKE_SIMD");
  for (int i = LT_BASELINE; wanted && i < found; i++)
    if (strcmp(wanted, names[i]) == 0) found = i;
  __atomic_store_n(&level, found, __ATOMIC_RELAXED);
  return found;
#else
  return LT_BASELINE;
#endif
}

const char *lt_simd_level(void) { return names[lt_level()]; }
