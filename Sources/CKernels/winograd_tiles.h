// The transform of inputs, in terms of LT_STORE_BF16(pointer, vector), which rounds 16 floats to bf16.
#include "bf16.h"

enum { LT_TILES_AT_ONCE = 16 };

// B^T over the four rows of a column.
LT_INLINE void lt_down(const lt_v16 d[4], lt_v16 w[4]) {
  w[0] = d[0] - d[2];
  w[1] = d[1] + d[2];
  w[2] = d[2] - d[1];
  w[3] = d[1] - d[3];
}

typedef int8_t lt_b16 __attribute__((vector_size(16), aligned(1), may_alias));

LT_INLINE lt_v16 lt_load_bytes(const int8_t *p, float scale) {
  return __builtin_convertvector(*(const lt_b16 *)p, lt_v16) * scale;
}

// 16 channels of column x in the four rows that begin at positions `rows`, -1 for one outside of the map; zero outside.
LT_INLINE void lt_column(
    const lt_winograd_input_arguments *a, const ptrdiff_t rows[4], int x, int channel, int bytes, lt_v16 d[4]) {
  const int inside = x >= 0 && x < a->width;
  for (int r = 0; r < 4; r++) {
    if (!inside || rows[r] < 0) {
      d[r] = lt_splat(0);
      continue;
    }
    const size_t position = (size_t)(rows[r] + x), at = position * a->channels + channel;
    d[r] = bytes ? lt_load_bytes(a->bytes + at, a->scales[position]) : lt_load_bf16(a->map + at);
  }
}

// `count` neighbouring tiles of tile row y from column x on.
LT_INLINE void lt_tiles(const lt_winograd_input_arguments *a, int y, int x, int count, int bytes, uint16_t *out) {
  ptrdiff_t rows[4];
  for (int r = 0; r < 4; r++) {
    const int row = 2 * y - 1 + r;
    rows[r] = row >= 0 && row < a->height ? (ptrdiff_t)row * a->width : -1;
  }
  for (int c = 0; c < a->channels; c += 16) {
    lt_v16 d[4], w[4][4];
    lt_column(a, rows, 2 * x - 1, c, bytes, d);
    lt_down(d, w[0]);
    lt_column(a, rows, 2 * x, c, bytes, d);
    lt_down(d, w[1]);
    uint16_t *target = out + c;
    for (int t = 0; t < count; t++, target += a->tile_stride) {
      lt_column(a, rows, 2 * (x + t) + 1, c, bytes, d);
      lt_down(d, w[2]);
      lt_column(a, rows, 2 * (x + t) + 2, c, bytes, d);
      lt_down(d, w[3]);
      for (int i = 0; i < 4; i++) {
        uint16_t *line = target + 4 * i * a->position_stride;
        LT_STORE_BF16(line, w[0][i] - w[2][i]);
        LT_STORE_BF16(line + a->position_stride, w[1][i] + w[2][i]);
        LT_STORE_BF16(line + 2 * a->position_stride, w[2][i] - w[1][i]);
        LT_STORE_BF16(line + 3 * a->position_stride, w[1][i] - w[3][i]);
      }
      for (int i = 0; i < 4; i++) w[0][i] = w[2][i], w[1][i] = w[3][i];
    }
  }
}

// The same where each position of the map is repeated: rows and columns a, b, b, c.
LT_INLINE void lt_doubled_tiles(const lt_winograd_input_arguments *a, int y, int x, int count, uint16_t *out) {
  const uint16_t *rows[3];
  for (int r = 0; r < 3; r++) {
    const int row = y - 1 + r;
    rows[r] = row >= 0 && row < a->height ? a->map + (size_t)row * a->width * a->channels : NULL;
  }
  for (int c = 0; c < a->channels; c += 16) {
    lt_v16 w[3][3] = {0};
    for (int column = 0; column < count + 2; column++) {
      const int at = x - 1 + column, inside = at >= 0 && at < a->width;
      lt_v16 d[3];
      for (int r = 0; r < 3; r++)
        d[r] = inside && rows[r] ? lt_load_bf16(rows[r] + (size_t)at * a->channels + c) : lt_splat(0);
      w[2][0] = d[0] - d[1];
      w[2][1] = d[1] + d[1];
      w[2][2] = d[1] - d[2];
      if (column >= 2) {
        uint16_t *target = out + c + (column - 2) * a->tile_stride;
        for (int i = 0; i < 3; i++) {
          uint16_t *line = target + 3 * i * a->position_stride;
          LT_STORE_BF16(line, w[0][i] - w[1][i]);
          LT_STORE_BF16(line + a->position_stride, w[1][i] + w[1][i]);
          LT_STORE_BF16(line + 2 * a->position_stride, w[1][i] - w[2][i]);
        }
      }
      for (int i = 0; i < 3; i++) w[0][i] = w[1][i], w[1][i] = w[2][i];
    }
  }
}

LT_INLINE void lt_winograd_input_rows(const lt_winograd_input_arguments *a) {
  const int across = a->doubled ? a->width : (a->width + 1) / 2;
  for (int t = 0; t < a->count;) {
    const int y = (a->first + t) / across, x = (a->first + t) % across;
    int run = a->count - t < across - x ? a->count - t : across - x;
    run = run < LT_TILES_AT_ONCE ? run : LT_TILES_AT_ONCE;
    if (a->doubled) lt_doubled_tiles(a, y, x, run, a->out + t * a->tile_stride);
    else if (a->bytes) lt_tiles(a, y, x, run, 1, a->out + t * a->tile_stride);
    else lt_tiles(a, y, x, run, 0, a->out + t * a->tile_stride);
    t += run;
  }
}
