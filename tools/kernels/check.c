// Checks the C kernels of attention against their formulas in double precision, on random shapes, and times them.
//   check [seed]         every format; the level is that of LONGTAKE_SIMD
//   check time [pages] [tokens] [head_dim] [rows]
// Built and run at every level and under sanitizers by tools/check-kernels.
#include "CKernels.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t state;
static float uniform(void) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (float)(state >> 40) / (1 << 24) * 2 - 1;
}
static float normal(void) { return uniform() + uniform() + uniform(); }
static int between(int low, int high) { return low + (int)((uniform() + 1) / 2 * (float)(high - low + 1)) % (high - low + 1); }
static float *numbers(size_t n, float scale) {
  float *x = malloc(sizeof(float) * (n ? n : 1));
  for (size_t i = 0; i < n; i++) x[i] = scale * normal();
  return x;
}
static float as_bf16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000u;
  memcpy(&x, &bits, 4);
  return x;
}
static void *lines(int64_t bytes) { return aligned_alloc(64, (size_t)(bytes + 63) / 64 * 64 + 64 * (bytes == 0)); }

static const char *const format_names[] = {"f32", "bf16", "int8"};
static int failures = 0;
static void expect(int good, const char *what, double found, double most, int format, int dim, int tokens, int rows) {
  if (good) return;
  printf("FAILED %s: %g, at most %g wanted; %s pages, head_dim %d, pages of %d, %d rows\n", what, found, most, format_names[format], dim, tokens, rows);
  failures++;
}

typedef struct {
  int format, dim, tokens, pages, summaries, rows;
  float *q, *k, *v, *bias;      // k, v: [pages + summaries][tokens][dim] as written; bias: of the summary rows
  int32_t *count;
  void **keys, **values;
} problem;

// Sealed pages; numbers that bf16 can hold if `exact`, so that only the kernel's own rounding is seen.
static problem make(int format, int dim, int tokens, int pages, int summaries, int rows, float size, int exact) {
  problem p = {format, dim, tokens, pages, summaries, rows, NULL, NULL, NULL, NULL, NULL, NULL, NULL};
  const int all = pages + summaries;
  const size_t n = (size_t)all * (size_t)tokens * (size_t)dim;
  p.q = numbers((size_t)rows * (size_t)dim, size);
  p.k = numbers(n, 1);
  p.v = numbers(n, 1);
  p.bias = numbers((size_t)summaries * 64 + 1, 1);
  if (exact) {
    for (size_t i = 0; i < (size_t)rows * (size_t)dim; i++) p.q[i] = as_bf16(p.q[i]);
    for (size_t i = 0; i < n; i++) p.k[i] = as_bf16(p.k[i]), p.v[i] = as_bf16(p.v[i]);
  }
  p.count = calloc((size_t)all + 1, 4);
  p.keys = calloc((size_t)all + 1, sizeof(void *));
  p.values = calloc((size_t)all + 1, sizeof(void *));
  float *scratch = lines(4 * 64 * (dim + 15));
  for (int i = 0; i < all; i++) {
    const int kind = i >= pages && format == LT_INT8 ? LT_BF16 : format;
    const int64_t key_bytes = lt_key_page_bytes(kind, dim, tokens), value_bytes = lt_value_page_bytes(kind, dim, tokens);
    p.count[i] = i % 3 == 1 ? between(1, tokens) : tokens;
    p.keys[i] = lines(key_bytes);
    p.values[i] = lines(value_bytes);
    memset(p.keys[i], 0, (size_t)key_bytes);
    memset(p.values[i], 0, (size_t)value_bytes);
    lt_write_page_arguments w = {0};
    w.format = kind, w.head_dim = dim, w.tokens = tokens, w.count = p.count[i];
    w.keys = p.k + (size_t)i * (size_t)(tokens * dim), w.values = p.v + (size_t)i * (size_t)(tokens * dim), w.stride = dim;
    w.key_page = p.keys[i], w.value_page = p.values[i], w.scratch = scratch;
    lt_write_page(&w);
  }
  free(scratch);
  return p;
}

static lt_attend_arguments arguments_of(const problem *p, float scale, float *out, const float **biases) {
  lt_attend_arguments a = {0};
  a.format = p->format, a.queries = p->q, a.query_stride = p->dim, a.rows = p->rows, a.head_dim = p->dim, a.scale = scale;
  a.keys = (const void *const *)p->keys, a.values = (const void *const *)p->values, a.counts = p->count;
  a.pages = p->pages + p->summaries, a.tokens = p->tokens, a.width = lt_page_width(p->format, p->tokens);
  a.output = out, a.output_stride = p->dim, a.keyed_from = p->pages;
  a.scratch = lines(4 * lt_attend_scratch(p->format, p->rows, p->dim));
  for (int i = 0; i < p->summaries; i++) biases[p->pages + i] = p->bias + 64 * i;
  a.biases = p->summaries ? biases : NULL;
  return a;
}

static void release(problem *p) {
  for (int i = 0; i < p->pages + p->summaries; i++) free(p->keys[i]), free(p->values[i]);
  free(p->keys), free(p->values), free(p->count), free(p->q), free(p->k), free(p->v), free(p->bias);
}

static void check(int format, int dim, int tokens, int pages, int summaries, int rows, float size, int exact) {
  problem p = make(format, dim, tokens, pages, summaries, rows, size, exact);
  const int all = pages + summaries;
  const float scale = 1 / sqrtf((float)dim);
  float *out = numbers((size_t)rows * (size_t)dim, 1), *bare = numbers((size_t)rows * (size_t)dim, 1), *lse = numbers((size_t)rows, 1);
  const float **biases = calloc((size_t)all + 1, sizeof(float *));
  lt_attend_arguments a = arguments_of(&p, scale, out, biases);
  a.log_sum_exp = lse;
  a.page_mass = numbers((size_t)pages, 1);
  a.key_mass = numbers((size_t)summaries * (size_t)a.width, 1);
  a.mass_scratch = numbers((size_t)rows * 2 * (size_t)all, 1);
  lt_attend(&a);
  lt_attend_arguments b = a;
  b.output = bare, b.page_mass = NULL, b.log_sum_exp = NULL;
  lt_attend(&b);
  expect(memcmp(out, bare, sizeof(float) * (size_t)(rows * dim)) == 0, "asking for more changes the output", 1, 0, format, dim, tokens, rows);
  double error = 0, norm = 0, lse_error = 0, mass_error = 0;
  double *mass = calloc((size_t)all * 64 + 1, sizeof(double));
  for (int r = 0; r < rows; r++) {
    double *logit = malloc(sizeof(double) * ((size_t)all * 64 + 1)), *sum = calloc((size_t)dim, sizeof(double)), top = -INFINITY, total = 0;
    for (int i = 0; i < all; i++)
      for (int j = 0; j < p.count[i]; j++) {
        double x = 0;
        for (int d = 0; d < dim; d++) x += (double)p.q[r * dim + d] * (double)p.k[((size_t)i * (size_t)tokens + (size_t)j) * (size_t)dim + (size_t)d];
        x = x * scale + (i >= pages ? p.bias[64 * (i - pages) + j] : 0);
        logit[64 * i + j] = x;
        if (x > top) top = x;
      }
    for (int i = 0; i < all; i++)
      for (int j = 0; j < p.count[i]; j++) total += exp(logit[64 * i + j] - top);
    for (int i = 0; i < all; i++)
      for (int j = 0; j < p.count[i]; j++) {
        const double w = exp(logit[64 * i + j] - top) / total;
        mass[i < pages ? 64 * i : 64 * i + j] += w;
        for (int d = 0; d < dim; d++) sum[d] += w * (double)p.v[((size_t)i * (size_t)tokens + (size_t)j) * (size_t)dim + (size_t)d];
      }
    for (int d = 0; d < dim; d++) {
      const double x = out[r * dim + d] - sum[d];
      error += x * x, norm += sum[d] * sum[d];
    }
    if (all) lse_error = fmax(lse_error, fabs(lse[r] - (top + log(total))));
    else expect(lse[r] == -INFINITY, "log-sum-exp of nothing", lse[r], -INFINITY, format, dim, tokens, rows);
    free(logit), free(sum);
  }
  for (int i = 0; i < pages; i++) mass_error = fmax(mass_error, fabs(a.page_mass[i] - mass[64 * i]));
  for (int i = pages; i < all; i++)
    for (int j = 0; j < p.count[i]; j++) mass_error = fmax(mass_error, fabs(a.key_mass[(i - pages) * a.width + j] - mass[64 * i + j]));
  error = sqrt(error / fmax(norm, 1e-30));
  // Rounding of numbers to bf16 adds an error to the logits in proportion to their size; int8 one of steps.
  const double few = (dim < 16 ? 2 : 1) * (rows < 4 ? 1.5 : 1);  // channels and rows to average over
  const double unit = few * (format == LT_F32 ? 1e-6 : format == LT_BF16 ? (exact ? (dim == 128 ? 2e-3 : 3e-3) : 3e-3) : 8e-3);
  const double most = format == LT_F32 ? 2e-5 * fmax(1, size) : exact && format == LT_BF16 ? unit : unit * (1.2 + size);
  expect(error <= most, "relative error", error, most, format, dim, tokens, rows);
  const double loose = format == LT_F32 ? 1e-4 * fmax(1, size) : 8 * unit * (1 + size);
  expect(lse_error <= loose, "log-sum-exp", lse_error, loose, format, dim, tokens, rows);
  expect(mass_error <= loose * rows, "mass", mass_error, loose * rows, format, dim, tokens, rows);
  release(&p);
  free(out), free(bare), free(lse), free(biases), free(a.scratch), free(a.page_mass), free(a.key_mass), free(a.mass_scratch), free(mass);
}

// Norm, rotation, temporal originals and statistics of a written page, and the same after it was turned.
static void check_writing(int format, int dim, int tokens, int count, int temporal) {
  const int rows = count, pairs = dim / 2;
  float *k = numbers((size_t)(rows * dim), 1), *v = numbers((size_t)(rows * dim), 1), *w = numbers((size_t)dim, 1), *inverse = numbers((size_t)rows, 0);
  float *cosines = numbers((size_t)(rows * pairs), 1), *sines = numbers((size_t)(rows * pairs), 1), *original = numbers((size_t)(rows * temporal), 1);
  float *mean = numbers((size_t)dim, 1), dispersion = 0, *scratch = lines(4 * 2 * 64 * (dim + 15));
  void *keys = lines(lt_key_page_bytes(format, dim, tokens)), *values = lines(lt_value_page_bytes(format, dim, tokens));
  lt_inverse_rms_f32(inverse, k, dim, rows, 1e-6f, dim);
  // Frames of a page are one position apart, wherever it is; its leading channels turn by the position.
  const int per_frame = (tokens + 1) / 2;
  for (int r = 0; r < rows; r++)
    for (int p = 0; p < pairs; p++) {
      const double angle = 2 * p < temporal ? (7 + r / per_frame) / (1.0 + p) : 3 * normal();
      cosines[r * pairs + p] = (float)cos(angle), sines[r * pairs + p] = (float)sin(angle);
    }
  lt_write_page_arguments a = {0};
  a.format = format, a.head_dim = dim, a.tokens = tokens, a.count = count, a.keys = k, a.values = v, a.stride = dim;
  a.inverse = inverse, a.norm = w, a.cosines = cosines, a.sines = sines, a.temporal = original, a.temporal_channels = temporal;
  a.key_page = keys, a.value_page = values, a.mean_key = mean, a.dispersion = &dispersion, a.scratch = scratch;
  lt_write_page(&a);
  for (int turn = 0; turn < 2; turn++) {
    float *turned_cosines = numbers((size_t)(64 * temporal), 1), *turned_sines = numbers((size_t)(64 * temporal), 1);
    for (int f = 0; f < 64; f++)
      for (int p = 0; p < temporal / 2; p++) {
        turned_cosines[f * temporal / 2 + p] = (float)cos((200 + f) / (1.0 + p));
        turned_sines[f * temporal / 2 + p] = (float)sin((200 + f) / (1.0 + p));
      }
    if (turn) {
      lt_turn_page_arguments t = {0};
      t.format = format, t.head_dim = dim, t.tokens = tokens, t.count = count, t.temporal = original, t.temporal_channels = temporal;
      t.tokens_per_frame = per_frame, t.cosines = turned_cosines, t.sines = turned_sines, t.key_page = keys;
      t.mean_key = mean, t.dispersion = &dispersion, t.scratch = scratch;
      lt_turn_page(&t);
    }
    double *key = calloc((size_t)(rows * dim), sizeof(double)), *centre = calloc((size_t)dim, sizeof(double)), spread = 0;
    for (int r = 0; r < rows; r++) {
      double squares = 0;
      for (int d = 0; d < dim; d++) squares += (double)k[r * dim + d] * k[r * dim + d];
      for (int p = 0; p < pairs; p++) {
        const double f = 1 / sqrt(squares / dim + 1e-6), x = k[r * dim + 2 * p] * f * w[2 * p], y = k[r * dim + 2 * p + 1] * f * w[2 * p + 1];
        double c = cosines[r * pairs + p], s = sines[r * pairs + p];
        if (turn && 2 * p < temporal) c = turned_cosines[r / per_frame * temporal / 2 + p], s = turned_sines[r / per_frame * temporal / 2 + p];
        key[r * dim + 2 * p] = x * c - y * s;
        key[r * dim + 2 * p + 1] = x * s + y * c;
        if (2 * p < temporal) expect(fabs(original[r * temporal + 2 * p] - x) < 1e-5, "original", original[r * temporal + 2 * p], x, format, dim, tokens, count);
      }
    }
    for (int d = 0; d < dim; d++) for (int r = 0; r < rows; r++) centre[d] += key[r * dim + d] / rows;
    for (int d = 0; d < dim; d++) for (int r = 0; r < rows; r++) spread += pow(key[r * dim + d] - centre[d], 2) / rows;
    // Steps are those of the longest pair; what did not turn is known as it was rounded.
    const double most = !turn || format == LT_F32 ? 1e-5 : format == LT_BF16 ? 1e-2 : 3e-2;
    for (int d = 0; d < dim; d++) expect(fabs(mean[d] - centre[d]) < most * (1 + fabs(centre[d])), "mean key", mean[d], centre[d], format, dim, tokens, count);
    expect(fabs(dispersion - sqrt(spread)) < most * (1 + sqrt(spread)), "dispersion", dispersion, sqrt(spread), format, dim, tokens, count);
    // The page reads as its keys: one query per channel, and values that tell the tokens apart.
    problem p = {format, dim, tokens, 1, 0, 1, numbers((size_t)dim, 1), NULL, NULL, NULL, NULL, &keys, &values};
    int32_t one = count;
    p.count = &one;
    float *out = numbers((size_t)dim, 1), lse = 0;
    const float *none[1] = {NULL};
    lt_attend_arguments q = arguments_of(&p, 1, out, none);
    q.log_sum_exp = &lse;
    lt_attend(&q);
    double total = 0, top = -INFINITY;
    for (int r = 0; r < rows; r++) {
      double x = 0;
      for (int d = 0; d < dim; d++) x += p.q[d] * key[r * dim + d];
      if (x > top) total = total * exp(top - x) + 1, top = x;
      else total += exp(x - top);
    }
    const double size = sqrt(dim) * (format == LT_F32 ? 2e-5 : format == LT_BF16 ? 3e-2 : 8e-2);
    expect(fabs(lse - top - log(total)) < size, "log-sum-exp of a written page", lse, top + log(total), format, dim, tokens, count);
    free(q.scratch), free(out), free(p.q), free(key), free(centre), free(turned_cosines), free(turned_sines);
  }
  free(k), free(v), free(w), free(inverse), free(cosines), free(sines), free(original), free(mean), free(scratch), free(keys), free(values);
}

static double cpu_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
typedef struct { const problem *p; int repeats; double seconds; } timing;
static void *run(void *x) {
  timing *t = x;
  float *out = numbers((size_t)t->p->rows * (size_t)t->p->dim, 1);
  const float **biases = calloc((size_t)t->p->pages + 1, sizeof(float *));
  lt_attend_arguments a = arguments_of(t->p, 1 / sqrtf((float)t->p->dim), out, biases);
  lt_attend(&a);
  const double start = cpu_seconds();
  for (int i = 0; i < t->repeats; i++) lt_attend(&a);
  t->seconds = cpu_seconds() - start;
  free(out), free(biases), free(a.scratch);
  return NULL;
}

static void measure(int pages, int tokens, int dim, int rows) {
  problem p[3];
  for (int f = 0; f < 3; f++) {
    p[f] = make(f, dim, tokens, pages, 0, rows, 1, 0);
    for (int i = 0; i < pages; i++) p[f].count[i] = tokens;
  }
  const double flops = 4.0 * rows * dim * pages * tokens;
  for (int round = 0; round < 5; round++)
    for (int f = 0; f < 3; f++) {
      timing one = {&p[f], (int)(2e10 / flops) + 1, 0}, two[2] = {one, one};
      run(&one);
      pthread_t threads[2];
      for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, run, &two[i]);
      for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
      const double rate = flops * one.repeats / 1e9;
      printf("%s: one core %.1f GFLOP/s, two %.1f\n", format_names[f], rate / one.seconds, rate / two[0].seconds + rate / two[1].seconds);
    }
  for (int f = 0; f < 3; f++) release(&p[f]);
}

int main(int argc, char **argv) {
  const int timed = argc > 1 && strcmp(argv[1], "time") == 0;
  state = argc > 1 && !timed ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL) * 2654435761u + 1;
  const uint64_t seed = state;
  if (timed) {
    measure(argc > 2 ? atoi(argv[2]) : 78, argc > 3 ? atoi(argv[3]) : 60, argc > 4 ? atoi(argv[4]) : 128, argc > 5 ? atoi(argv[5]) : 60);
    return 0;
  }
  int checks = 0;
  for (int format = LT_F32; format <= LT_INT8; format++) {
    for (int exact = 0; exact < 2; exact++) {
      check(format, 128, 60, 9, 2, 60, 1, exact);
      check(format, 128, 40, 12, 0, 40, 1, exact);
      // Logits that run away, page after page.
      check(format, 128, 60, 25, 1, 13, 12, exact);
      check(format, 128, 64, 1, 0, 1, 1, exact);
      check(format, 64, 20, 0, 0, 3, 1, exact);
      checks += 5;
      for (int i = 0; i < 30; i++, checks++)
        check(format, 2 * between(1, 100), between(1, 64), between(0, 12), between(0, 3), between(1, 64), i % 3 == 0 ? 4 : 1, exact);
    }
    for (int i = 0; i < 20; i++, checks++) {
      const int dim = 2 * between(1, 90), tokens = between(1, 64);
      check_writing(format, dim, tokens, between(1, tokens), 2 * between(0, dim / 2));
    }
  }
  printf("%s: %d checks, %d failures, seed %llu\n", lt_simd_level(), checks, failures, (unsigned long long)seed);
  return failures != 0;
}
