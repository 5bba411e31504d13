// What the levels of attention share.
#pragma once
#include "pages.h"

void lt_attend_f32(const lt_attend_arguments *a);
#if defined(__x86_64__)
void lt_attend_bf16_avx512(const lt_attend_arguments *a);
#endif

// Query rows that share one load of keys or values.
enum { LT_GROUP = 6 };
// First row of group i of n that share the rows evenly.
LT_INLINE int lt_group_start(int rows, int n, int i) { return rows / n * i + (i < rows % n ? i : rows % n); }

LT_INLINE int lt_format_of(const lt_attend_arguments *a, int page) {
  return page >= a->keyed_from && a->format == LT_INT8 ? LT_BF16 : a->format;
}
