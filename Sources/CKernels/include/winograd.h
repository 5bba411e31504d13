// Convolutions of 3 x 3 with one position of padding and steps of one, from fewer products (winograd.c).
#pragma once
#include <stddef.h>
#include <stdint.h>

// Positions of a tile in the transformed domain. Where a map is doubled before it is convolved, those of row or column 2
// are zero and left out.
enum { LT_WINOGRAD_POSITIONS = 16, LT_WINOGRAD_DOUBLED_POSITIONS = 9 };
// The number in 0...15 of the i-th position that is not left out.
int lt_winograd_position(int doubled, int i);

// The transformed kernels: weight [outputs][inputs][taps][3][3] to 16 matrices [outputs][taps][inputs] in bf16, that of
// position i at out + i * position_stride.
void lt_winograd_kernels(const float *weight, int outputs, int inputs, int taps, uint16_t *out, ptrdiff_t position_stride);

// Tiles of one frame: each stands for 2 x 2 outputs, row by row of the map; of the last row and column, what lies outside is
// left out. An output map has the size of the input, or twice that.
typedef struct {
  const uint16_t *map;         // [height][width][channels], bf16; or NULL and, not doubled,
  const int8_t *bytes;         // the same in bytes,
  const float *scales;         // with a scale for each position
  int height, width, channels; // channels: a multiple of 16
  int doubled;                 // every position of the map is repeated in both directions first
  int first, count;            // tiles
  uint16_t *out;               // tile t, position i: out + i * position_stride + t * tile_stride, [channels]
  ptrdiff_t position_stride, tile_stride;
} lt_winograd_input_arguments;
void lt_winograd_input(const lt_winograd_input_arguments *a);

// Products of neighbouring tiles of one row of tiles to the outputs of both rows: products [position][tile][channels], out
// [2][2 * count][channels].
typedef struct {
  const float *products;       // position i of the first tile: products + i * position_stride
  ptrdiff_t position_stride;
  int doubled;
  int count, channels;         // channels: a multiple of 16
  float *out;
} lt_winograd_output_arguments;
void lt_winograd_output(const lt_winograd_output_arguments *a);
