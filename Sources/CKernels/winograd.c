// Convolutions of 3 x 3 by Winograd's F(2 x 2, 3 x 3): four outputs from 16 products instead of 36.
//
//   Y = A^T ((G g G^T) . (B^T d B)) A      A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks, 2015
//
// d is a tile of 4 x 4 inputs around 2 x 2 outputs, g a kernel; the product in the middle is one of matrices for each of the
// 16 positions, over channels, and is not made here. Where a map is doubled by repetition before it is convolved, a tile
// has the rows (a, b, b, c): position 2 of each direction is zero, and 9 products are left of 36.
#include "winograd.h"
#include "pages.h"
#define LT_STORE_BF16(p, x) lt_store_bf16(p, x)
#include "winograd_tiles.h"
#include "winograd_bf16.h"

int lt_winograd_position(int doubled, int i) {
  static const int kept[3] = {0, 1, 3};
  return doubled ? 4 * kept[i / 3] + kept[i % 3] : i;
}

// Row `i` of G.
static float combined(int i, float a, float b, float c) {
  switch (i) {
    case 0: return a;
    case 1: return 0.5f * (a + b + c);
    case 2: return 0.5f * (a - b + c);
    default: return c;
  }
}

void lt_winograd_kernels(const float *weight, int outputs, int inputs, int taps, uint16_t *out, ptrdiff_t position_stride) {
  for (int o = 0; o < outputs; o++)
    for (int i = 0; i < inputs; i++)
      for (int t = 0; t < taps; t++) {
        const float *g = weight + (((size_t)o * inputs + i) * taps + t) * 9;
        uint16_t *target = out + ((size_t)o * taps + t) * inputs + i;
        for (int y = 0; y < 4; y++) {
          float row[3];
          for (int x = 0; x < 3; x++) row[x] = combined(y, g[x], g[3 + x], g[6 + x]);
          for (int x = 0; x < 4; x++) target[(4 * y + x) * position_stride] = lt_bf16_of(combined(x, row[0], row[1], row[2]));
        }
      }
}

LT_INLINE void lt_winograd_input_any_body(const lt_winograd_input_arguments *a) { lt_winograd_input_rows(a); }
LT_DISPATCH(lt_winograd_input_any, (const lt_winograd_input_arguments *a), (a))

void lt_winograd_input(const lt_winograd_input_arguments *a) {
#if defined(__x86_64__)
  if (lt_level() >= LT_AVX512_BF16) {
    lt_winograd_input_bf16(a);
    return;
  }
#endif
  lt_winograd_input_any(a);
}

// A^T over the products of one column or row.
LT_INLINE void fold(const lt_v16 *m, int step, int doubled, lt_v16 *y0, lt_v16 *y1) {
  if (doubled) {
    *y0 = m[0] + m[step];
    *y1 = m[step] - m[2 * step];
  } else {
    *y0 = m[0] + m[step] + m[2 * step];
    *y1 = m[step] - m[2 * step] - m[3 * step];
  }
}

LT_INLINE void output_tiles(const lt_winograd_output_arguments *a, int doubled) {
  const int side = doubled ? 3 : 4;
  for (int t = 0; t < a->count; t++) {
    float *top = a->out + (size_t)2 * t * a->channels, *bottom = top + (size_t)2 * a->count * a->channels;
    for (int c = 0; c < a->channels; c += 16) {
      const float *products = a->products + (size_t)t * a->channels + c;
      lt_v16 m[16], rows[2][4], y[2][2];
      for (int i = 0; i < side * side; i++) m[i] = lt_load(products + i * a->position_stride);
      for (int x = 0; x < side; x++) fold(m + x, side, doubled, &rows[0][x], &rows[1][x]);
      for (int i = 0; i < 2; i++) fold(rows[i], 1, doubled, &y[i][0], &y[i][1]);
      lt_store(top + c, y[0][0]);
      lt_store(top + a->channels + c, y[0][1]);
      lt_store(bottom + c, y[1][0]);
      lt_store(bottom + a->channels + c, y[1][1]);
    }
  }
}

LT_INLINE void lt_winograd_output_body(const lt_winograd_output_arguments *a) {
  if (a->doubled) output_tiles(a, 1);
  else output_tiles(a, 0);
}
LT_DISPATCH(lt_winograd_output, (const lt_winograd_output_arguments *a), (a))
