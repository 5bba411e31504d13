// Convolutions of few channels in bf16, as the last stages of a small decoder have them (convolve_bf16.c).
#pragma once
#include <stdint.h>

// A 3 x 3 convolution with a zero border, over one or two frames, of at most 64 channels; or one behind a doubling of
// height and width (nearest neighbour), which is computed without doubling: each of the four positions that a source
// position becomes meets two by two of its neighbours, under weights that are sums of the nine.
typedef struct {
  int inputs;    // even, at most 64
  int outputs;   // of one frame that comes out
  int times;     // frames of the source that meet in one sum: 1 or 2
  int doubles;   // whether height and width are doubled first; times is 1 then
  int frames;    // frames that come out of one that goes in; 1 unless it doubles. outputs * frames <= 64
} lt_convolution_shape;

// Whether this processor has the kernel, and the kernel the shape.
int lt_convolves(const lt_convolution_shape *s);
// Numbers of bf16 that the packed weights take up, and of float32 that the packed biases do.
int64_t lt_convolution_weights(const lt_convolution_shape *s);
int64_t lt_convolution_biases(const lt_convolution_shape *s);
// Packs weights [frames * outputs][inputs][times][3][3] and biases [frames * outputs] (or NULL).
void lt_pack_convolution(const lt_convolution_shape *s, const float *weights, const float *bias, uint16_t *packed, float *packed_bias);

typedef struct {
  lt_convolution_shape shape;
  const uint16_t *weights;       // packed
  const float *bias;             // packed
  const uint16_t *maps[2];       // [height][width][inputs] each
  int height, width;             // of the source
  int first_row, rows;           // of the source, what is made of them
  int relu;                      // max(0, sum) after the residual
  const uint16_t *residual;      // like out_bf16; or NULL
  uint16_t *out_bf16;            // frame k at out + k * frame_stride, whole maps [height][width][outputs], doubled if it doubles
  float *out;                    // the same in float32; one of the two is NULL
  int64_t frame_stride;
  uint16_t *scratch;             // lt_convolution_scratch numbers
} lt_convolve_arguments;
int64_t lt_convolution_scratch(const lt_convolution_shape *s, int width);
void lt_convolve(const lt_convolve_arguments *a);
