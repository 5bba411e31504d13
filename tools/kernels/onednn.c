// Checks COneDNN (products and convolutions in bf16, products in bytes) against their formulas in double precision, on random
// shapes. Built and run at every instruction set of oneDNN (ONEDNN_MAX_CPU_ISA) and under sanitizers by tools/check-kernels.
// What COneDNN does not offer to the engine at a level (lt_dnn_supports) may be refused or wrong there, and is only counted:
// without VNNI, oneDNN's sums of bytes saturate.
//   onednn [seed]
#include "CKernels.h"
#include "COneDNN.h"
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

// Numbers of one type, and what they are.
typedef struct {
  void *stored;
  float *values;
} numbers;
static numbers make(int type, size_t n) {
  numbers x = {malloc(2 * n + 64), malloc(sizeof(float) * n)};
  for (size_t i = 0; i < n; i++) {
    if (type == LT_DNN_INT8) {
      ((int8_t *)x.stored)[i] = (int8_t)between(-127, 127);
      x.values[i] = ((int8_t *)x.stored)[i];
    } else {
      const float v = uniform() + uniform();
      lt_round_bf16((uint16_t *)x.stored + i, &v, 1);
      lt_widen_bf16(x.values + i, (uint16_t *)x.stored + i, 1);
    }
  }
  return x;
}
static void release(numbers x) { free(x.stored), free(x.values); }

static int checks, failures, refusals, not_offered;
static int offered;
static char implementation[64];

static void judge(const char *what, const lt_dnn_plan *plan, const float *sums, const double *wanted, size_t n, int exact) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < n; i++) error += pow(sums[i] - wanted[i], 2), norm += wanted[i] * wanted[i];
  error = sqrt(error / fmax(norm, 1e-30));
  checks++;
  snprintf(implementation, sizeof implementation, "%s", lt_dnn_implementation(plan));
  if (error <= (exact ? 1e-7 : 2e-6)) return;
  if (!offered) {
    not_offered++;
    return;
  }
  failures++;
  printf("FAILED %s by %s: relative error %g\n", what, implementation, error);
}

static void check_product(int type, int rows, int inputs, int outputs) {
  const lt_dnn_shape shape = {type, outputs, inputs, 0, 0};
  numbers w = make(type, (size_t)outputs * (size_t)inputs), x = make(type, (size_t)rows * (size_t)inputs);
  lt_dnn_weight *weight = lt_dnn_pack(&shape, w.stored);
  lt_dnn_sizes sizes = {0};
  sizes.rows = rows;
  const lt_dnn_plan *plan = weight ? lt_dnn_plan_for(weight, &sizes) : NULL;
  if (plan) {
    const size_t n = (size_t)rows * (size_t)outputs;
    float *sums = malloc(sizeof(float) * n);
    double *wanted = calloc(n, sizeof(double));
    void *scratch = aligned_alloc(64, (lt_dnn_scratch_bytes(plan) + 127) / 64 * 64);
    for (int r = 0; r < rows; r++)
      for (int o = 0; o < outputs; o++)
        for (int i = 0; i < inputs; i++) wanted[r * outputs + o] += (double)x.values[r * inputs + i] * (double)w.values[o * inputs + i];
    char what[96];
    snprintf(what, sizeof what, "product of %d x %d -> %d in %s", rows, inputs, outputs, type == LT_DNN_BF16 ? "bf16" : "bytes");
    if (lt_dnn_run(plan, weight, x.stored, sums, scratch) != 0) failures++, printf("FAILED to run %s\n", what);
    else judge(what, plan, sums, wanted, n, type == LT_DNN_INT8);
    free(sums), free(wanted), free(scratch);
  } else {
    refusals++;
    if (offered) failures++, printf("FAILED: refused\n");
  }
  lt_dnn_free(weight);
  release(w), release(x);
}

static void check_convolution(int rows, int columns, int inputs, int outputs, lt_dnn_sizes sizes) {
  const lt_dnn_shape shape = {LT_DNN_BF16, outputs, inputs, rows, columns};
  const int height = (sizes.height + sizes.top + sizes.bottom - rows) / sizes.stride + 1;
  const int width = (sizes.width + sizes.left + sizes.right - columns) / sizes.stride + 1;
  numbers w = make(LT_DNN_BF16, (size_t)(outputs * inputs * rows * columns)), x = make(LT_DNN_BF16, (size_t)(sizes.height * sizes.width * inputs));
  lt_dnn_weight *weight = lt_dnn_pack(&shape, w.stored);
  const lt_dnn_plan *plan = weight ? lt_dnn_plan_for(weight, &sizes) : NULL;
  if (plan) {
    const size_t n = (size_t)(height * width * outputs);
    float *sums = malloc(sizeof(float) * n);
    double *wanted = calloc(n, sizeof(double));
    for (size_t i = 0; i < n; i++) sums[i] = uniform(), wanted[i] = sizes.adds ? sums[i] : 0;
    void *scratch = aligned_alloc(64, (lt_dnn_scratch_bytes(plan) + 127) / 64 * 64);
    for (int y = 0; y < height; y++)
      for (int c = 0; c < width; c++)
        for (int o = 0; o < outputs; o++)
          for (int ky = 0; ky < rows; ky++)
            for (int kx = 0; kx < columns; kx++) {
              const int row = y * sizes.stride - sizes.top + ky, column = c * sizes.stride - sizes.left + kx;
              if (row < 0 || row >= sizes.height || column < 0 || column >= sizes.width) continue;
              for (int i = 0; i < inputs; i++)
                wanted[(y * width + c) * outputs + o] += (double)x.values[(row * sizes.width + column) * inputs + i] *
                                                         (double)w.values[((o * inputs + i) * rows + ky) * columns + kx];
            }
    char what[128];
    snprintf(what, sizeof what, "convolution of %d x %d x %d by %d x %d -> %d, stride %d, adds %d", sizes.height, sizes.width, inputs, rows,
             columns, outputs, sizes.stride, sizes.adds);
    if (lt_dnn_run(plan, weight, x.stored, sums, scratch) != 0) failures++, printf("FAILED to run %s\n", what);
    else judge(what, plan, sums, wanted, n, 0);
    free(sums), free(wanted), free(scratch);
  } else {
    refusals++;
    if (offered) failures++, printf("FAILED: refused\n");
  }
  lt_dnn_free(weight);
  release(w), release(x);
}

int main(int argc, char **argv) {
  state = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL) * 2654435761u + 1;
  const uint64_t seed = state;
  const char *isa = getenv("ONEDNN_MAX_CPU_ISA");
  if (!lt_dnn_version()) {
    printf("oneDNN: not built with it\n");
    return 0;
  }
  for (int type = LT_DNN_BF16; type <= LT_DNN_INT8; type++) {
    implementation[0] = 0;
    offered = lt_dnn_supports(type);
    check_product(type, 1, 1, 1);
    check_product(type, 64, 384, 384);
    for (int i = 0; i < 25; i++) check_product(type, between(1, 130), between(1, 300), between(1, 200));
    printf("oneDNN %s, at most %s: products in %s by %s, offered to the engine: %s\n", lt_dnn_version(), isa ? isa : "all", type ? "bytes" : "bf16",
           implementation[0] ? implementation : "nothing", offered ? "yes" : "no");
  }
  implementation[0] = 0;
  offered = lt_dnn_supports(LT_DNN_BF16);
  for (int i = 0; i < 25; i++) {
    const int rows = between(1, 3), columns = between(1, 3);
    lt_dnn_sizes sizes = {0};
    sizes.height = between(rows, 24), sizes.width = between(columns, 24), sizes.stride = between(1, 2), sizes.adds = i % 2;
    sizes.top = between(0, rows - 1), sizes.bottom = between(0, rows - 1), sizes.left = between(0, columns - 1), sizes.right = between(0, columns - 1);
    check_convolution(rows, columns, between(1, 80), between(1, 80), sizes);
  }
  printf("oneDNN, at most %s: convolutions in bf16 by %s; %d checks, %d failures; not offered: %d refused, %d wrong; seed %llu\n", isa ? isa : "all",
         implementation[0] ? implementation : "nothing", checks, failures, refusals, not_offered, (unsigned long long)seed);
  return failures != 0;
}
