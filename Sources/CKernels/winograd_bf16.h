// The transform of inputs with the processor's own rounding to bf16.
#pragma once
#include "winograd.h"

#if defined(__x86_64__)
void lt_winograd_input_bf16(const lt_winograd_input_arguments *a);
#endif
