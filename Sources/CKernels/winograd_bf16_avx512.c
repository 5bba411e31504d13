// Winograd's transform of inputs where the processor rounds to bf16 in one instruction.
#include "winograd_bf16.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>
// Vectors pass between functions of one instruction set only: the helpers are compiled for this one too.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")
#endif

#define LT_STORE_BF16(p, x) _mm256_storeu_si256((__m256i *)(p), (__m256i)_mm512_cvtneps_pbh((__m512)(x)))
#include "winograd_tiles.h"

void lt_winograd_input_bf16(const lt_winograd_input_arguments *a) { lt_winograd_input_rows(a); }

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
