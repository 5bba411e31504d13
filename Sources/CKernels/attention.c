// Which kernel attends: bf16 and int8 pages have one of their own where the processor multiplies bf16 numbers.
#include "attention.h"

void lt_attend(const lt_attend_arguments *a) {
#if defined(__x86_64__)
  if (a->format != LT_F32 && lt_level() >= LT_AVX512_BF16) {
    lt_attend_bf16_avx512(a);
    return;
  }
#endif
  lt_attend_f32(a);
}

int64_t lt_attend_scratch(int format, int rows, int head_dim) {
  // Float32: output and weights, maximum and sum of each row, one unpacked page. Otherwise: output, sums, weights of two
  // pages, queries and shift of each row, what int8 pages ask for beside, values of two pages. Either kernel may be chosen.
  const int64_t channels = lt_channels(head_dim), n = rows;
  const int64_t single = n * (channels + 66) + (format == LT_F32 ? 0 : 64 * (head_dim + channels));
  const int64_t half = n * (channels + 16 + 64 + head_dim / 2 + 1 + 64 + 1 + lt_quads(head_dim)) + 32 * head_dim + 64 * channels;
  return (format == LT_F32 || single > half ? single : half) + 16;
}
