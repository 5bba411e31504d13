// Checks the convolutions of few channels against their formula in double precision, on random shapes, and times them.
//   convolve [seed]
//   convolve time
// Built and run under sanitizers by tools/check-kernels. A processor without AVX-512 BF16 has none of it.
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
static float value_of(uint16_t x) {
  const uint32_t bits = (uint32_t)x << 16;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}
static float *numbers(int64_t n) {
  float *x = malloc(sizeof(float) * (size_t)n);
  for (int64_t i = 0; i < n; i++) x[i] = uniform() + uniform();
  return x;
}
// Numbers that bf16 holds.
static uint16_t *halves(int64_t n) {
  float *x = numbers(n);
  uint16_t *out = malloc(sizeof(uint16_t) * (size_t)n);
  lt_round_bf16(out, x, n);
  free(x);
  return out;
}

typedef struct {
  lt_convolve_arguments a;
  float *weights, *bias, *packed_bias;
  uint16_t *packed, *maps[2], *residual, *out_bf16, *scratch;
  float *out;
  int64_t count;  // of one frame that comes out
} problem;

static problem make(lt_convolution_shape s, int height, int width, int relu, int residual, int single, int biased) {
  problem p = {.a = {.shape = s, .height = height, .width = width, .relu = relu}};
  const int columns = s.outputs * s.frames;
  p.weights = numbers((int64_t)columns * s.inputs * s.times * 9);
  // Multiples of 1/32 below 1: bf16 holds them, and the sums of four that a doubling makes of them.
  for (int64_t i = 0; i < (int64_t)columns * s.inputs * s.times * 9; i++) p.weights[i] = nearbyintf(p.weights[i] * 15.5f) / 32;
  if (biased) p.bias = numbers(columns);
  p.packed = malloc(sizeof(uint16_t) * (size_t)lt_convolution_weights(&s));
  p.packed_bias = malloc(sizeof(float) * (size_t)lt_convolution_biases(&s));
  lt_pack_convolution(&s, p.weights, p.bias, p.packed, p.packed_bias);
  for (int t = 0; t < s.times; t++) p.a.maps[t] = p.maps[t] = halves((int64_t)height * width * s.inputs);
  p.count = (int64_t)height * width * s.outputs * (s.doubles ? 4 : 1);
  if (residual) p.a.residual = p.residual = halves(p.count * s.frames);
  if (single) p.a.out = p.out = malloc(sizeof(float) * (size_t)(p.count * s.frames));
  else p.a.out_bf16 = p.out_bf16 = malloc(sizeof(uint16_t) * (size_t)(p.count * s.frames));
  p.a.scratch = p.scratch = malloc(sizeof(uint16_t) * (size_t)lt_convolution_scratch(&s, width));
  p.a.weights = p.packed;
  p.a.bias = p.packed_bias;
  p.a.frame_stride = p.count;
  p.a.rows = height;
  return p;
}

static void drop(problem *p) {
  void *all[] = {p->weights, p->bias, p->packed_bias, p->packed, p->maps[0], p->maps[1], p->residual, p->out_bf16, p->scratch, p->out};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static int failures = 0;

static void check(lt_convolution_shape s, int height, int width, int relu, int residual, int single, int biased) {
  if (!lt_convolves(&s)) return;
  problem p = make(s, height, width, relu, residual, single, biased);
  // In two parts, as two threads would.
  const int cut = between(0, height);
  p.a.rows = cut;
  lt_convolve(&p.a);
  p.a.first_row = cut;
  p.a.rows = height - cut;
  lt_convolve(&p.a);
  const int scale = s.doubles ? 2 : 1, rows = height * scale, across = width * scale;
  double worst = 0;
  for (int frame = 0; frame < s.frames; frame++) {
    for (int y = 0; y < rows; y++) {
      for (int x = 0; x < across; x++) {
        for (int o = 0; o < s.outputs; o++) {
          const int column = frame * s.outputs + o;
          double sum = p.bias ? p.bias[column] : 0, size = 1;
          for (int t = 0; t < s.times; t++) {
            for (int ky = 0; ky < 3; ky++) {
              for (int kx = 0; kx < 3; kx++) {
                const int row = y + ky - 1, place = x + kx - 1;
                if (row < 0 || row >= rows || place < 0 || place >= across) continue;
                const uint16_t *in = p.maps[t] + ((int64_t)(row / scale) * width + place / scale) * s.inputs;
                for (int i = 0; i < s.inputs; i++) {
                  const double product = value_of(in[i]) * (double)p.weights[((((int64_t)column * s.inputs + i) * s.times + t) * 3 + ky) * 3 + kx];
                  sum += product;
                  size += product * product;
                }
              }
            }
          }
          const int64_t at = frame * p.count + ((int64_t)y * across + x) * s.outputs + o;
          if (p.residual) sum += value_of(p.residual[at]);
          if (relu && sum < 0) sum = 0;
          const double found = single ? p.out[at] : value_of(p.out_bf16[at]);
          // Nothing is rounded but sums, to float32, and results perhaps to bf16.
          const double error = fabs(found - sum) / (1e-5 * sqrt(size) + (single ? 0 : fabs(sum) / 255));
          if (!(error <= worst)) worst = error;
        }
      }
    }
  }
  if (!(worst < 1)) {
    printf("FAILED: %g times the error allowed; %d -> %d channels, %d times, %d frames, doubles %d, %d x %d, relu %d, residual %d, float32 %d\n", worst, s.inputs,
           s.outputs, s.times, s.frames, s.doubles, height, width, relu, residual, single);
    failures++;
  }
  drop(&p);
}

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double total;
static void measure(lt_convolution_shape s, int height, int width, int times) {
  problem p = make(s, height, width, 1, s.times == 1 && !s.doubles && s.inputs == s.outputs, s.outputs == 3, 1);
  const double work = 2.0 * height * width * s.inputs * s.outputs * s.frames * s.times * 9 * (s.doubles ? 4 : 1);
  double best = 1e9;
  for (int run = 0; run < 9; run++) {
    const double start = seconds();
    for (int i = 0; i < 4; i++) lt_convolve(&p.a);
    const double took = (seconds() - start) / 4;
    if (took < best) best = took;
  }
  total += times * best;
  printf("%3d x %3d, %2d -> %d x %2d channels, %d times, doubles %d: %7.3f ms, %4.0f GFLOP/s of the nine taps\n", height, width, s.inputs, s.frames, s.outputs,
         s.times, s.doubles, best * 1e3, work / best / 1e9);
  drop(&p);
}

int main(int argc, char **argv) {
  const int timed = argc > 1 && strcmp(argv[1], "time") == 0;
  state = argc > 1 && !timed ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL) * 2654435761u + 1;
  const uint64_t seed = state;
  const lt_convolution_shape stages[] = {{16, 64, 1, 0, 1}, {64, 64, 2, 0, 1}, {64, 64, 1, 0, 1}, {64, 48, 1, 1, 1}, {48, 48, 2, 0, 1}, {48, 48, 1, 0, 1},
                                         {48, 24, 1, 1, 2}, {24, 24, 2, 0, 1}, {24, 24, 1, 0, 1}, {24, 16, 1, 1, 2}, {16, 3, 1, 0, 1}};
  const int heights[] = {20, 20, 20, 20, 40, 40, 40, 80, 80, 80, 160}, counts[] = {1, 3, 6, 1, 3, 6, 1, 6, 12, 2, 4};
  if (timed) {
    if (!lt_convolves(&stages[0])) return 0;
    for (int i = 0; i < 11; i++) measure(stages[i], heights[i], heights[i] * 8 / 5, counts[i]);
    printf("a latent frame of the shipped decoder: %.2f ms\n", total * 1e3);
    return 0;
  }
  int checks = 0;
  for (int i = 0; i < 11; i++, checks++) check(stages[i], between(1, 9), between(1, 40), 1, i % 2, i == 10, i != 3);
  for (int i = 0; i < 150; i++, checks++) {
    lt_convolution_shape s = {8 * between(1, 8), between(1, 64), between(1, 2), 0, 1};
    if (i % 3 == 0) s = (lt_convolution_shape){8 * between(1, 8), between(1, 32), 1, 1, between(1, 2)};
    if (i % 5 == 1) s.outputs = between(1, 4);
    check(s, between(1, 7), between(1, 45), between(0, 1), between(0, 1), between(0, 1), between(0, 1));
  }
  printf("%s, convolutions: %d checks, %d failures, seed %llu\n", lt_simd_level(), checks, failures, (unsigned long long)seed);
  return failures != 0;
}
