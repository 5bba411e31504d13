// Checks Winograd's transforms against the convolution that they stand for, in double precision, on random shapes, with plain
// sums between them. Built and run at every level and under sanitizers by tools/check-kernels.
//   winograd [seed]
#include "CKernels.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t state;
static float uniform(void) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (float)(state >> 40) / (1 << 24) * 2 - 1;
}
static int between(int low, int high) { return low + (int)((uniform() + 1) / 2 * (float)(high - low + 1)) % (high - low + 1); }
static int smaller(int a, int b) { return a < b ? a : b; }

// Frames [taps][height][width][inputs] of one output frame, which is twice as large if `doubled`.
// With `bytes` all but the last one is read from bytes.
static int check(int height, int width, int inputs, int outputs, int taps, int doubled, int bytes, int portion) {
  const int scale = doubled ? 2 : 1, out_height = scale * height, out_width = scale * width;
  const int across = (out_width + 1) / 2, tiles = across * ((out_height + 1) / 2);
  const int positions = doubled ? LT_WINOGRAD_DOUBLED_POSITIONS : LT_WINOGRAD_POSITIONS, kernel = taps * inputs;
  const size_t frame = (size_t)height * (size_t)width * (size_t)inputs, count = (size_t)outputs * (size_t)kernel;
  float *weight = malloc(sizeof(float) * count * 9), *map = malloc(sizeof(float) * frame * (size_t)taps);
  uint16_t *halves = malloc(2 * frame * (size_t)taps), *kernels = malloc(2 * count * LT_WINOGRAD_POSITIONS);
  for (size_t i = 0; i < count * 9; i++) weight[i] = uniform();
  for (size_t i = 0; i < frame * (size_t)taps; i++) map[i] = 2 * uniform();
  lt_round_bf16(halves, map, (int64_t)(frame * (size_t)taps));
  lt_widen_bf16(map, halves, (int64_t)(frame * (size_t)taps));
  const size_t places = (size_t)height * (size_t)width;
  const int remembered = bytes && !doubled ? taps - 1 : 0;
  int8_t *kept = malloc(frame * (size_t)taps);
  float *scales = malloc(sizeof(float) * places * (size_t)taps);
  for (size_t i = 0; i < places * (size_t)remembered; i++) {
    float again;
    int8_t *same = malloc((size_t)inputs);
    lt_remember_bf16(scales + i, kept + i * (size_t)inputs, halves + i * (size_t)inputs, inputs);
    lt_widen_bytes(map + i * (size_t)inputs, kept + i * (size_t)inputs, scales[i], inputs);
    lt_remember_f32(&again, same, map + i * (size_t)inputs, inputs);
    if (again != scales[i] || memcmp(same, kept + i * (size_t)inputs, (size_t)inputs)) {
      printf("FAILED: %d numbers do not give the same bytes again: scale %g, then %g\n", inputs, scales[i], again);
      return 1;
    }
    free(same);
  }
  lt_winograd_kernels(weight, outputs, inputs, taps, kernels, (ptrdiff_t)count);
  double error = 0, norm = 0;
  for (int first = 0; first < tiles; first += portion) {
    const int n = smaller(portion, tiles - first);
    uint16_t *in = malloc(2 * (size_t)(positions * n * kernel));
    float *products = calloc((size_t)(positions * n * outputs), sizeof(float)), *out = malloc(sizeof(float) * 4 * (size_t)(n * outputs));
    for (int t = 0; t < taps; t++) {
      lt_winograd_input_arguments a = {
          .map = halves + (size_t)t * frame, .height = height, .width = width, .channels = inputs, .doubled = doubled,
          .first = first, .count = n, .out = in + t * inputs, .position_stride = (ptrdiff_t)n * kernel, .tile_stride = kernel};
      if (t < remembered) a.map = NULL, a.bytes = kept + (size_t)t * frame, a.scales = scales + (size_t)t * places;
      lt_winograd_input(&a);
    }
    for (int p = 0; p < positions; p++)
      for (int t = 0; t < n; t++)
        for (int o = 0; o < outputs; o++) {
          double sum = 0;
          for (int k = 0; k < kernel; k++) {
            float x, w;
            lt_widen_bf16(&x, in + ((size_t)p * n + t) * kernel + k, 1);
            lt_widen_bf16(&w, kernels + (size_t)lt_winograd_position(doubled, p) * count + (size_t)o * kernel + k, 1);
            sum += (double)x * (double)w;
          }
          products[((size_t)p * n + t) * outputs + o] = (float)sum;
        }
    for (int t = 0; t < n;) {
      const int y = (first + t) / across, x = (first + t) % across, run = smaller(n - t, across - x);
      lt_winograd_output_arguments a = {products + (size_t)t * outputs, (ptrdiff_t)n * outputs, doubled, run, outputs, out};
      lt_winograd_output(&a);
      for (int half = 0; half < smaller(2, out_height - 2 * y); half++)
        for (int column = 0; column < smaller(2 * run, out_width - 2 * x); column++)
          for (int o = 0; o < outputs; o++) {
            double sum = 0;
            for (int s = 0; s < taps; s++)
              for (int dy = 0; dy < 3; dy++)
                for (int dx = 0; dx < 3; dx++) {
                  const int row = 2 * y + half + dy - 1, at = 2 * x + column + dx - 1;
                  if (row < 0 || row >= out_height || at < 0 || at >= out_width) continue;
                  const float *pixel = map + (size_t)s * frame + ((size_t)(row / scale) * width + at / scale) * inputs;
                  for (int i = 0; i < inputs; i++) sum += (double)pixel[i] * (double)weight[(((size_t)o * inputs + i) * taps + s) * 9 + dy * 3 + dx];
                }
            const double difference = out[((size_t)half * 2 * run + column) * outputs + o] - sum;
            error += difference * difference, norm += sum * sum;
          }
      t += run;
    }
    free(in), free(products), free(out);
  }
  error = sqrt(error / norm);
  free(weight), free(map), free(halves), free(kernels), free(kept), free(scales);
  // Both sides of the product are rounded to bf16 after sums of up to four numbers.
  if (error < 7e-3) return 0;
  printf("FAILED: %d x %d x %d -> %d, %d taps, doubled %d: relative error %g\n", height, width, inputs, outputs, taps, doubled, error);
  return 1;
}

int main(int argc, char **argv) {
  state = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL) * 2654435761u + 1;
  const uint64_t seed = state;
  int failures = 0;
  const int checks = 30;
  for (int i = 0; i < checks; i++)
    failures += check(between(1, 11), between(1, 11), 16 * between(1, 3), 16 * between(1, 2), between(1, 3), i % 2, i % 4 == 0, between(1, 40));
  printf("winograd %s: %d checks, %d failures, seed %llu\n", lt_simd_level(), checks, failures, (unsigned long long)seed);
  return failures != 0;
}
