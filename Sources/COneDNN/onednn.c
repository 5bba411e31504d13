// oneDNN 2.x and 3.x behind COneDNN.h. They differ in how descriptors are made; the rest is common.
#include "COneDNN.h"

#if LT_HAVE_ONEDNN
#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// MARK: Descriptors

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t descriptor;
#define FORWARD dnnl_forward_inference
static descriptor copy_of(const_dnnl_memory_desc_t d) {
  descriptor copy = NULL;
  return dnnl_memory_desc_clone(&copy, d) == dnnl_success ? copy : NULL;
}
static descriptor make(int axes, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag) {
  descriptor d = NULL;
  return dnnl_memory_desc_create_with_tag(&d, axes, dims, type, tag) == dnnl_success ? d : NULL;
}
static void drop(descriptor d) { if (d) dnnl_memory_desc_destroy(d); }
static dnnl_status_t product(dnnl_primitive_desc_t *out, dnnl_engine_t engine, descriptor x, descriptor w, descriptor y,
                             dnnl_primitive_attr_t attributes) {
  return dnnl_matmul_primitive_desc_create(out, engine, x, w, NULL, y, attributes);
}
static dnnl_status_t convolution(dnnl_primitive_desc_t *out, dnnl_engine_t engine, descriptor x, descriptor w, descriptor y,
                                 const dnnl_dims_t stride, const dnnl_dims_t before, const dnnl_dims_t after,
                                 dnnl_primitive_attr_t attributes) {
  const dnnl_dims_t dense = {0, 0};
  return dnnl_convolution_forward_primitive_desc_create(out, engine, FORWARD, dnnl_convolution_direct, x, w, NULL, y,
                                                        stride, dense, before, after, attributes);
}
static dnnl_status_t add_to_sums(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_f32); }
#else
typedef dnnl_memory_desc_t *descriptor;
#define FORWARD dnnl_forward_inference
static descriptor copy_of(const dnnl_memory_desc_t *d) {
  descriptor copy = malloc(sizeof *copy);
  if (copy) *copy = *d;
  return copy;
}
static descriptor make(int axes, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag) {
  dnnl_memory_desc_t d;
  return dnnl_memory_desc_init_by_tag(&d, axes, dims, type, tag) == dnnl_success ? copy_of(&d) : NULL;
}
static void drop(descriptor d) { free(d); }
static dnnl_status_t product(dnnl_primitive_desc_t *out, dnnl_engine_t engine, descriptor x, descriptor w, descriptor y,
                             dnnl_primitive_attr_t attributes) {
  dnnl_matmul_desc_t d;
  dnnl_status_t status = dnnl_matmul_desc_init(&d, x, w, NULL, y);
  return status == dnnl_success ? dnnl_primitive_desc_create(out, &d, attributes, engine, NULL) : status;
}
static dnnl_status_t convolution(dnnl_primitive_desc_t *out, dnnl_engine_t engine, descriptor x, descriptor w, descriptor y,
                                 const dnnl_dims_t stride, const dnnl_dims_t before, const dnnl_dims_t after,
                                 dnnl_primitive_attr_t attributes) {
  dnnl_convolution_desc_t d;
  dnnl_status_t status =
      dnnl_convolution_forward_desc_init(&d, FORWARD, dnnl_convolution_direct, x, w, NULL, y, stride, before, after);
  return status == dnnl_success ? dnnl_primitive_desc_create(out, &d, attributes, engine, NULL) : status;
}
static dnnl_status_t add_to_sums(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1.0f); }
#endif

// MARK: The process's engine and each thread's stream

static dnnl_engine_t engine;
static char version[32];
static pthread_key_t stream_key;
static void (*set_openmp_threads)(int);
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void end_stream(void *stream) { dnnl_stream_destroy(stream); }

static void start(void) {
  const dnnl_version_t *v = dnnl_version();
  // Descriptors of another major version have another shape.
  if (v->major != DNNL_VERSION_MAJOR || dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success) return;
  pthread_key_create(&stream_key, end_stream);
  void *symbol = dlsym(RTLD_DEFAULT, "omp_set_num_threads");
  memcpy(&set_openmp_threads, &symbol, sizeof symbol);
  snprintf(version, sizeof version, "%d.%d.%d", v->major, v->minor, v->patch);
}

const char *lt_dnn_version(void) {
  pthread_once(&once, start);
  return version[0] ? version : NULL;
}

// The calling thread's stream. A thread that has one has also been told to start no OpenMP threads: that number is the
// thread's own in OpenMP, and oneDNN looks at it both when code is made and when it runs.
static dnnl_stream_t thread_stream(void) {
  if (!lt_dnn_version()) return NULL;
  dnnl_stream_t stream = pthread_getspecific(stream_key);
  if (stream) return stream;
  if (set_openmp_threads) set_openmp_threads(1);
  if (dnnl_stream_create(&stream, engine, dnnl_stream_default_flags) != dnnl_success) return NULL;
  pthread_setspecific(stream_key, stream);
  return stream;
}

// oneDNN is asked, not only the processor: it may be older, or told to do with less (ONEDNN_MAX_CPU_ISA). Without VNNI its
// sums of bytes saturate; below AVX-512 it has no bf16, and without AVX-512 BF16 a slow one.
int lt_dnn_supports(int type) {
#if defined(__x86_64__)
  if (!lt_dnn_version()) return 0;
  const unsigned wanted = type == LT_DNN_BF16 ? dnnl_cpu_isa_avx512_core_bf16 : dnnl_cpu_isa_avx512_core_vnni;
  if (((unsigned)dnnl_get_effective_cpu_isa() & wanted) != wanted) return 0;
  return type == LT_DNN_BF16 ? __builtin_cpu_supports("avx512bf16") != 0 : __builtin_cpu_supports("avx512vnni") != 0;
#else
  (void)type;
  return 0;
#endif
}

static dnnl_data_type_t element(int type) { return type == LT_DNN_BF16 ? dnnl_bf16 : dnnl_s8; }

// MARK: Weights

// One order of a weight's numbers. Plans of one weight nearly always agree on one.
typedef struct packing {
  descriptor layout;
  void *values;
  struct packing *next;
} packing;

struct lt_dnn_weight {
  lt_dnn_shape shape;
  packing *first;
};

struct lt_dnn_plan {
  lt_dnn_shape shape;
  lt_dnn_sizes sizes;
  descriptor source, weight, sums, scratch;
  dnnl_primitive_t primitive;
  char implementation[64];
  struct lt_dnn_plan *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;  // of the list of plans and of every weight's list
static lt_dnn_plan *plans;

static void *aligned(size_t bytes) {
  void *memory = NULL;
  return posix_memalign(&memory, 64, bytes + 64) == 0 ? memory : NULL;
}

// Copies `values` from one order to another.
static void *reordered(descriptor from, const void *values, descriptor to) {
  dnnl_stream_t stream = thread_stream();
  void *out = stream ? aligned(dnnl_memory_desc_get_size(to)) : NULL;
  dnnl_primitive_desc_t plan = NULL;
  dnnl_primitive_t primitive = NULL;
  dnnl_memory_t source = NULL, target = NULL;
  int done = out && dnnl_reorder_primitive_desc_create(&plan, from, engine, to, engine, NULL) == dnnl_success &&
             dnnl_primitive_create(&primitive, plan) == dnnl_success &&
             dnnl_memory_create(&source, from, engine, (void *)values) == dnnl_success &&
             dnnl_memory_create(&target, to, engine, out) == dnnl_success;
  if (done) {
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, target}};
    done = dnnl_primitive_execute(primitive, stream, 2, arguments) == dnnl_success;
  }
  if (source) dnnl_memory_destroy(source);
  if (target) dnnl_memory_destroy(target);
  if (primitive) dnnl_primitive_destroy(primitive);
  if (plan) dnnl_primitive_desc_destroy(plan);
  if (!done) {
    free(out);
    return NULL;
  }
  return out;
}

static packing *packed_as(const lt_dnn_weight *weight, descriptor layout) {
  for (packing *p = weight->first; p; p = p->next)
    if (dnnl_memory_desc_equal(p->layout, layout)) return p;
  return NULL;
}

// Under the lock: makes sure that the weight is there in the order `layout`.
static int pack(lt_dnn_weight *weight, descriptor from, const void *values, descriptor layout) {
  packing *p = calloc(1, sizeof *p);
  if (!p) return 0;
  p->layout = copy_of(layout);
  p->values = p->layout ? reordered(from, values, layout) : NULL;
  if (!p->values) {
    drop(p->layout);
    free(p);
    return 0;
  }
  // Behind the others: who runs a plan walks the list without the lock.
  packing **end = &weight->first;
  while (*end) end = &(*end)->next;
  __atomic_store_n(end, p, __ATOMIC_RELEASE);
  return 1;
}

// MARK: Plans

static int is_matrix(const lt_dnn_shape *s) { return s->kernel_rows == 0; }

static lt_dnn_plan *make_plan(const lt_dnn_shape *s, const lt_dnn_sizes *z) {
  if (!thread_stream()) return NULL;
  lt_dnn_plan *plan = calloc(1, sizeof *plan);
  if (!plan) return NULL;
  plan->shape = *s;
  plan->sizes = *z;
  dnnl_primitive_attr_t attributes = NULL;
  dnnl_post_ops_t ops = NULL;
  dnnl_primitive_desc_t code = NULL;
  descriptor any = NULL;
  int done = dnnl_primitive_attr_create(&attributes) == dnnl_success &&
             dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user) == dnnl_success;
  if (done && z->adds)
    done = dnnl_post_ops_create(&ops) == dnnl_success && add_to_sums(ops) == dnnl_success &&
           dnnl_primitive_attr_set_post_ops(attributes, ops) == dnnl_success;
  if (done && is_matrix(s)) {
    const dnnl_dims_t x = {z->rows, s->inputs}, w = {s->inputs, s->outputs}, y = {z->rows, s->outputs};
    plan->source = make(2, x, element(s->type), dnnl_ab);
    any = make(2, w, element(s->type), dnnl_format_tag_any);
    plan->sums = make(2, y, dnnl_f32, dnnl_ab);
    done = plan->source && any && plan->sums &&
           product(&code, engine, plan->source, any, plan->sums, attributes) == dnnl_success;
  } else if (done) {
    const int height = (z->height + z->top + z->bottom - s->kernel_rows) / z->stride + 1;
    const int width = (z->width + z->left + z->right - s->kernel_columns) / z->stride + 1;
    const dnnl_dims_t x = {1, s->inputs, z->height, z->width}, y = {1, s->outputs, height, width};
    const dnnl_dims_t w = {s->outputs, s->inputs, s->kernel_rows, s->kernel_columns};
    const dnnl_dims_t stride = {z->stride, z->stride}, before = {z->top, z->left}, after = {z->bottom, z->right};
    plan->source = make(4, x, element(s->type), dnnl_nhwc);
    any = make(4, w, element(s->type), dnnl_format_tag_any);
    plan->sums = make(4, y, dnnl_f32, dnnl_nhwc);
    done = plan->source && any && plan->sums &&
           convolution(&code, engine, plan->source, any, plan->sums, stride, before, after, attributes) == dnnl_success;
  }
  if (done) {
    const char *name = "";
    dnnl_primitive_desc_query(code, dnnl_query_impl_info_str, 0, &name);
    snprintf(plan->implementation, sizeof plan->implementation, "%s", name);
    plan->weight = copy_of(dnnl_primitive_desc_query_md(code, dnnl_query_weights_md, 0));
    plan->scratch = copy_of(dnnl_primitive_desc_query_md(code, dnnl_query_scratchpad_md, 0));
    done = plan->weight && plan->scratch && dnnl_primitive_create(&plan->primitive, code) == dnnl_success;
  }
  drop(any);
  if (code) dnnl_primitive_desc_destroy(code);
  if (ops) dnnl_post_ops_destroy(ops);
  if (attributes) dnnl_primitive_attr_destroy(attributes);
  if (done) return plan;
  drop(plan->source);
  drop(plan->weight);
  drop(plan->sums);
  drop(plan->scratch);
  free(plan);
  return NULL;
}

// Under the lock.
static lt_dnn_plan *find_plan(const lt_dnn_shape *s, const lt_dnn_sizes *z) {
  for (lt_dnn_plan *p = plans; p; p = p->next)
    if (memcmp(&p->shape, s, sizeof *s) == 0 && memcmp(&p->sizes, z, sizeof *z) == 0) return p;
  lt_dnn_plan *plan = make_plan(s, z);
  if (plan) {
    plan->next = plans;
    plans = plan;
  }
  return plan;
}

lt_dnn_weight *lt_dnn_pack(const lt_dnn_shape *s, const void *values) {
  lt_dnn_weight *weight = calloc(1, sizeof *weight);
  if (!weight) return NULL;
  weight->shape = *s;
  const dnnl_dims_t matrix = {s->inputs, s->outputs};
  const dnnl_dims_t kernel = {s->outputs, s->inputs, s->kernel_rows, s->kernel_columns};
  descriptor plain = is_matrix(s) ? make(2, matrix, element(s->type), dnnl_ba) : make(4, kernel, element(s->type), dnnl_oihw);
  // The order of a weight hardly depends on the sizes of a call: these stand for all.
  lt_dnn_sizes usual = {0};
  if (is_matrix(s)) {
    usual.rows = 64;
  } else {
    usual.height = s->kernel_rows + 7;
    usual.width = s->kernel_columns + 15;
    usual.stride = 1;
  }
  pthread_mutex_lock(&lock);
  lt_dnn_plan *plan = find_plan(s, &usual);
  const int done = plan && plain && pack(weight, plain, values, plan->weight);
  pthread_mutex_unlock(&lock);
  drop(plain);
  if (done) return weight;
  lt_dnn_free(weight);
  return NULL;
}

void lt_dnn_free(lt_dnn_weight *weight) {
  if (!weight) return;
  for (packing *p = weight->first; p;) {
    packing *next = p->next;
    drop(p->layout);
    free(p->values);
    free(p);
    p = next;
  }
  free(weight);
}

size_t lt_dnn_bytes(const lt_dnn_weight *weight) {
  size_t bytes = 0;
  for (packing *p = weight->first; p; p = p->next) bytes += dnnl_memory_desc_get_size(p->layout);
  return bytes;
}

const lt_dnn_plan *lt_dnn_plan_for(lt_dnn_weight *weight, const lt_dnn_sizes *sizes) {
  pthread_mutex_lock(&lock);
  lt_dnn_plan *plan = find_plan(&weight->shape, sizes);
  if (plan && !packed_as(weight, plan->weight) &&
      !pack(weight, weight->first->layout, weight->first->values, plan->weight))
    plan = NULL;
  pthread_mutex_unlock(&lock);
  return plan;
}

size_t lt_dnn_scratch_bytes(const lt_dnn_plan *plan) { return dnnl_memory_desc_get_size(plan->scratch); }

const char *lt_dnn_implementation(const lt_dnn_plan *plan) { return plan->implementation; }

int lt_dnn_run(const lt_dnn_plan *plan, const lt_dnn_weight *weight, const void *source, float *sums, void *scratch) {
  dnnl_stream_t stream = thread_stream();
  const packing *packed = packed_as(weight, plan->weight);
  if (!stream || !packed) return dnnl_invalid_arguments;
  dnnl_memory_t x = NULL, w = NULL, y = NULL, s = NULL;
  dnnl_status_t status = dnnl_memory_create(&x, plan->source, engine, (void *)source);
  if (status == dnnl_success) status = dnnl_memory_create(&w, packed->layout, engine, packed->values);
  if (status == dnnl_success) status = dnnl_memory_create(&y, plan->sums, engine, sums);
  if (status == dnnl_success) status = dnnl_memory_create(&s, plan->scratch, engine, scratch);
  if (status == dnnl_success) {
    const dnnl_exec_arg_t arguments[] = {
        {DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DST, y}, {DNNL_ARG_SCRATCHPAD, s}};
    status = dnnl_primitive_execute(plan->primitive, stream, 4, arguments);
  }
  if (x) dnnl_memory_destroy(x);
  if (w) dnnl_memory_destroy(w);
  if (y) dnnl_memory_destroy(y);
  if (s) dnnl_memory_destroy(s);
  return (int)status;
}

#else

const char *lt_dnn_version(void) { return NULL; }
int lt_dnn_supports(int type) { (void)type; return 0; }
lt_dnn_weight *lt_dnn_pack(const lt_dnn_shape *shape, const void *values) { (void)shape; (void)values; return NULL; }
void lt_dnn_free(lt_dnn_weight *weight) { (void)weight; }
size_t lt_dnn_bytes(const lt_dnn_weight *weight) { (void)weight; return 0; }
const lt_dnn_plan *lt_dnn_plan_for(lt_dnn_weight *weight, const lt_dnn_sizes *sizes) { (void)weight; (void)sizes; return NULL; }
size_t lt_dnn_scratch_bytes(const lt_dnn_plan *plan) { (void)plan; return 0; }
const char *lt_dnn_implementation(const lt_dnn_plan *plan) { (void)plan; return ""; }
int lt_dnn_run(const lt_dnn_plan *plan, const lt_dnn_weight *weight, const void *source, float *sums, void *scratch) {
  (void)plan; (void)weight; (void)source; (void)sums; (void)scratch;
  return 1;
}

#endif
