// Matrix products and convolutions of oneDNN, 2.x or 3.x, behind a few functions. Everything runs on the calling thread:
// the caller cuts the work into parts. Built without oneDNN, every function says that there is none.
#pragma once
#include <stddef.h>
#include <stdint.h>

// The version of oneDNN that this was built with and runs with, such as "2.6.3"; NULL if there is none.
const char *lt_dnn_version(void);

// Element types of weights and sources: bfloat16, or signed bytes. Products are summed in float32, bytes exactly in int32.
enum { LT_DNN_BF16 = 0, LT_DNN_INT8 = 1 };
// Whether the processor has instructions for such products and oneDNN is there.
int lt_dnn_supports(int type);

// What a weight is: a matrix [outputs][inputs] (kernel 0 x 0), or a kernel [outputs][inputs][rows][columns].
typedef struct {
  int type;
  int outputs, inputs;
  int kernel_rows, kernel_columns;
} lt_dnn_shape;

// A weight in the order that oneDNN reads fastest.
typedef struct lt_dnn_weight lt_dnn_weight;
// Packs values [outputs][inputs] or [outputs][inputs][rows][columns]; NULL if oneDNN refuses.
lt_dnn_weight *lt_dnn_pack(const lt_dnn_shape *shape, const void *values);
void lt_dnn_free(lt_dnn_weight *weight);
size_t lt_dnn_bytes(const lt_dnn_weight *weight);

// The sizes of one call. A product: sums [rows][outputs] = source [rows][inputs] x weight^T. A convolution of one frame:
// source [height][width][inputs], zero-padded, sums [out rows][out columns][outputs].
typedef struct {
  int rows;                            // products only
  int height, width;                   // convolutions only, as all that follow
  int stride;
  int top, bottom, left, right;
  int adds;                            // add to what stands in sums
} lt_dnn_sizes;

// Code for one shape and size, kept for the life of the process.
typedef struct lt_dnn_plan lt_dnn_plan;
// The plan of a call with this weight; NULL if oneDNN refuses. Thread-safe.
const lt_dnn_plan *lt_dnn_plan_for(lt_dnn_weight *weight, const lt_dnn_sizes *sizes);
// Bytes that a call needs to scribble on.
size_t lt_dnn_scratch_bytes(const lt_dnn_plan *plan);
// The name of oneDNN's implementation, such as "brg:avx512_core_bf16".
const char *lt_dnn_implementation(const lt_dnn_plan *plan);
// Runs a plan on the calling thread; `scratch` is aligned to 64. Returns 0, or what oneDNN says. Thread-safe.
int lt_dnn_run(const lt_dnn_plan *plan, const lt_dnn_weight *weight, const void *source, float *sums, void *scratch);
