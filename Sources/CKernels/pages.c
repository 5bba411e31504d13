// Pages of keys and values in the three formats: written with norm and rotation on the way, turned, and unpacked.
#include "pages.h"

int lt_page_width(int format, int tokens) { return format == LT_F32 ? (tokens + 15) / 16 * 16 : (tokens + 7) / 8 * 8; }

static int64_t whole_lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

int64_t lt_key_page_bytes(int format, int head_dim, int tokens) {
  const int64_t width = lt_page_width(format, tokens);
  switch (format) {
    case LT_F32: return whole_lines(4 * head_dim * width);
    case LT_BF16: return whole_lines(2 * head_dim * width);
    default: return whole_lines(4 * lt_quads(head_dim) * width + (int64_t)lt_key_head_bytes(head_dim));
  }
}

int64_t lt_value_page_bytes(int format, int head_dim, int tokens) {
  const int64_t channels = lt_channels(head_dim), pairs = lt_value_tokens(tokens);
  switch (format) {
    case LT_F32: return whole_lines(4 * channels * tokens);
    case LT_BF16: return whole_lines(2 * channels * pairs);
    default: return whole_lines(channels * pairs + 4 * pairs);
  }
}

// MARK: Writing

// Words of two bf16 numbers, [head_dim / 2][width]: token t of `rows` [count][stride] becomes column t.
LT_INLINE void pack_keys_bf16(uint32_t *page, const float *rows, int stride, int first, int end, int width, int count) {
  for (int t = 0; t < count; t++) {
    const float *row = rows + (size_t)t * stride;
    int d = first;
    for (; d + 32 <= end; d += 32) {
      uint16_t halves[32];
      lt_store_bf16(halves, lt_load(row + d));
      lt_store_bf16(halves + 16, lt_load(row + d + 16));
      for (int p = 0; p < 16; p++) memcpy(page + (size_t)(d / 2 + p) * width + t, halves + 2 * p, sizeof(uint32_t));
    }
    for (; d < end; d += 2) page[(size_t)(d / 2) * width + t] = lt_bf16_of(row[d]) | (uint32_t)lt_bf16_of(row[d + 1]) << 16;
  }
}

typedef int8_t lt_b16 __attribute__((vector_size(16), aligned(1), may_alias));
typedef int16_t lt_s16 __attribute__((vector_size(32), aligned(2), may_alias));
// To the nearest whole number, ties to even; of magnitude below 2^22.
LT_INLINE lt_i16 nearest(lt_v16 x) { return (lt_i16)(x + 12582912.0f) - 0x4B400000; }
// Zero for what is no number.
LT_INLINE lt_v16 number_of(lt_v16 x) { return lt_select(x == x, x, lt_splat(0)); }

// The same in -127...127, zero for what is no number.
LT_INLINE lt_i16 limited(lt_v16 x) { return nearest(lt_max(lt_min(number_of(x), lt_splat(127)), lt_splat(-127))); }

// All channels of keys whose number is a multiple of 16.
LT_INLINE void pack_whole_keys_int8(void *page, const float *rows, int stride, int head_dim, int width, int count) {
  lt_key_head *head = page;
  int8_t *numbers = lt_key_numbers(page, head_dim);
  lt_v16 longest = lt_splat(0);
  for (int d = 0; d < head_dim; d += 16) {
    lt_v16 sum = lt_splat(0);
    for (int t = 0; t < count; t++) sum += lt_load(rows + (size_t)t * stride + d);
    lt_store_bf16(head->means + d, sum / (float)count);
    const lt_v16 mean = lt_load_bf16(head->means + d);
    for (int t = 0; t < count; t++) {
      const lt_v16 x = lt_load(rows + (size_t)t * stride + d) - mean, square = x * x;
      longest = lt_max(square + __builtin_shufflevector(square, square, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14), longest);
    }
  }
  head->step = sqrtf(lt_largest(longest)) / 127.0f;
  const float inverse = head->step > 0 ? 1.0f / head->step : 0;
  for (int t = 0; t < count; t++) {
    lt_i16 sum = (lt_i16){0};
    for (int d = 0; d < head_dim; d += 16) {
      const lt_i16 whole = limited((lt_load(rows + (size_t)t * stride + d) - lt_load_bf16(head->means + d)) * inverse);
      sum += whole;
      const lt_b16 bytes = __builtin_convertvector(whole, lt_b16);
      int32_t fours[4];
      memcpy(fours, &bytes, sizeof fours);
      for (int i = 0; i < 4; i++) memcpy(numbers + ((size_t)(d / 4 + i) * width + t) * 4, fours + i, 4);
    }
    int32_t total = 0;
    for (int i = 0; i < 16; i++) total += sum[i];
    head->shifts[t] = -128 * total;
  }
}

// Each channel less its mean, in steps of 1/127 of the longest pair of channels. That length is the same after any turn of
// all tokens by one angle, and so the step is kept when only the leading channels are written anew.
LT_INLINE void pack_keys_int8(void *page, const float *rows, int stride, int first, int end, int head_dim, int width, int count) {
  lt_key_head *head = page;
  int8_t *numbers = lt_key_numbers(page, head_dim);
  float longest = 0;
  for (int d = first; d < end; d += 2) {
    float sums[2] = {0, 0};
    for (int t = 0; t < count; t++)
      for (int i = 0; i < 2; i++) sums[i] += rows[(size_t)t * stride + d + i];
    for (int i = 0; i < 2; i++) head->means[d + i] = lt_bf16_of(sums[i] / (float)count);
    for (int t = 0; t < count; t++) {
      const float x = rows[(size_t)t * stride + d] - lt_float_of(head->means[d]), y = rows[(size_t)t * stride + d + 1] - lt_float_of(head->means[d + 1]);
      longest = x * x + y * y > longest ? x * x + y * y : longest;
    }
  }
  if (first == 0 && end == head_dim) head->step = sqrtf(longest) / 127.0f;
  const float inverse = head->step > 0 ? 1.0f / head->step : 0;
  for (int d = first; d < end; d++)
    for (int t = 0; t < count; t++) {
      const float x = rintf((rows[(size_t)t * stride + d] - lt_float_of(head->means[d])) * inverse);
      // What is no number is so in the mean too.
      numbers[((size_t)(d / 4) * width + t) * 4 + d % 4] = x != x ? 0 : (int8_t)(x > 127 ? 127 : x < -127 ? -127 : x);
    }
  for (int t = 0; t < count; t++) {
    int32_t sum = 0;
    for (int d = 0; d < head_dim; d++) sum += numbers[((size_t)(d / 4) * width + t) * 4 + d % 4];
    for (int d = head_dim; d % 4; d++) numbers[((size_t)(d / 4) * width + t) * 4 + d % 4] = 0;
    head->shifts[t] = -128 * sum;
  }
}

LT_INLINE void pack_keys(int format, void *page, const float *rows, int stride, int first, int end, int head_dim, int width, int count) {
  switch (format) {
    case LT_F32:
      for (int d = first; d < end; d++)
        for (int t = 0; t < count; t++) ((float *)page)[(size_t)d * width + t] = rows[(size_t)t * stride + d];
      break;
    case LT_BF16: pack_keys_bf16(page, rows, stride, first, end, width, count); break;
    default:
      if (first == 0 && end == head_dim && head_dim % 16 == 0) pack_whole_keys_int8(page, rows, stride, head_dim, width, count);
      else pack_keys_int8(page, rows, stride, first, end, head_dim, width, count);
  }
}

LT_INLINE void pack_values_f32(float *page, const float *values, ptrdiff_t stride, int head_dim, int count) {
  for (int t = 0; t < count; t++) memcpy(page + (size_t)t * lt_channels(head_dim), values + t * stride, sizeof(float) * (size_t)head_dim);
}

// Words of two bf16 numbers, in panels of [tokens / 2][channels of the panel]. An odd last token is paired with zeros.
LT_INLINE void pack_values_bf16(uint32_t *page, const float *values, ptrdiff_t stride, int head_dim, int tokens, int count) {
  const int all = lt_channels(head_dim), pairs = lt_value_tokens(tokens) / 2;
  for (int panel = 0; panel < all; panel += LT_PANEL) {
    const int channels = all - panel < LT_PANEL ? all - panel : LT_PANEL;
    uint32_t *line = page + (size_t)panel * pairs;
    for (int t = 0; t < count; t += 2, line += channels) {
      const float *even = values + t * stride + panel, *odd = t + 1 < count ? even + stride : NULL;
      const int there = head_dim - panel < channels ? head_dim - panel : channels;
      int c = 0;
      for (; c + 16 <= there; c += 16) lt_store_words(line + c, lt_words_of(lt_load(even + c), odd ? lt_load(odd + c) : lt_splat(0)));
      for (; c < there; c++) line[c] = lt_bf16_of(even[c]) | (uint32_t)(odd ? lt_bf16_of(odd[c]) : 0) << 16;
    }
  }
}

// Each token's numbers in steps of 1/127 of the largest; the steps of all tokens come first.
LT_INLINE void pack_values_int8(void *page, const float *values, ptrdiff_t stride, int head_dim, int tokens, int count) {
  const int all = lt_channels(head_dim), padded = lt_value_tokens(tokens);
  float *steps = page;
  int8_t *numbers = (int8_t *)(steps + padded);
  if (head_dim % 16 == 0) {
    for (int t = 0; t < count; t++) {
      lt_v16 most = lt_splat(0), wrong = lt_splat(0);
      for (int c = 0; c < head_dim; c += 16) {
        const lt_v16 x = lt_load(values + t * stride + c);
        most = lt_max(lt_select(x < 0.0f, -x, x), most);
        wrong += x - x;  // 0, or no number
      }
      steps[t] = lt_largest(most) / 127.0f + lt_sum(wrong);
    }
    if (count % 2) steps[count] = 0;
    for (int t = 0; t < count; t += 2) {
      const float *even = values + t * stride, *odd = t + 1 < count ? even + stride : NULL;
      const float up = steps[t] > 0 ? 1.0f / steps[t] : 0, down = odd && steps[t + 1] > 0 ? 1.0f / steps[t + 1] : 0;
      for (int panel = 0; panel < all; panel += LT_PANEL) {
        const int channels = all - panel < LT_PANEL ? all - panel : LT_PANEL;
        int8_t *line = numbers + (size_t)panel * padded + (size_t)t * channels;
        for (int c = 0; c < channels; c += 16) {
          const lt_i16 x = limited(lt_load(even + panel + c) * up);
          const lt_i16 y = odd ? limited(lt_load(odd + panel + c) * down) : (lt_i16){0};
          *(lt_s16 *)(line + 2 * c) = __builtin_convertvector((x & 0xFF) | (y << 8), lt_s16);
        }
      }
    }
    return;
  }
  for (int t = 0; t < count; t++) {
    const float *row = values + t * stride;
    float largest = 0, wrong = 0;
    for (int c = 0; c < head_dim; c++) {
      largest = fabsf(row[c]) > largest ? fabsf(row[c]) : largest;
      wrong += row[c] - row[c];  // 0, or no number
    }
    const float inverse = largest > 0 && wrong == 0 ? 127.0f / largest : 0;
    steps[t] = largest / 127.0f + wrong;
    for (int c = 0; c < head_dim; c++) {
      const int panel = c / LT_PANEL * LT_PANEL, channels = all - panel < LT_PANEL ? all - panel : LT_PANEL;
      numbers[(size_t)panel * padded + ((size_t)(t / 2) * channels + (c - panel)) * 2 + t % 2] = inverse == 0 ? 0 : (int8_t)rintf(row[c] * inverse);
    }
  }
  if (count % 2) steps[count] = 0;
}

LT_INLINE void summarize(const float *rows, int stride, int head_dim, int count, float *mean, float *dispersion) {
  float squares = 0;
  int d = 0;
  for (; d + 16 <= head_dim; d += 16) {
    lt_v16 sum = lt_splat(0), acc = lt_splat(0);
    for (int t = 0; t < count; t++) sum += lt_load(rows + (size_t)t * stride + d);
    const lt_v16 m = sum / (float)count;
    for (int t = 0; t < count; t++) {
      const lt_v16 difference = lt_load(rows + (size_t)t * stride + d) - m;
      acc += difference * difference;
    }
    lt_store(mean + d, m);
    squares += lt_sum(acc);
  }
  for (; d < head_dim; d++) {
    float sum = 0;
    for (int t = 0; t < count; t++) sum += rows[(size_t)t * stride + d];
    mean[d] = sum / (float)count;
    for (int t = 0; t < count; t++) squares += (rows[(size_t)t * stride + d] - mean[d]) * (rows[(size_t)t * stride + d] - mean[d]);
  }
  *dispersion = sqrtf(squares / (float)count);
}

LT_INLINE void lt_write_page_body(const lt_write_page_arguments *a) {
  const int dim = a->head_dim, stride = lt_channels(dim), width = lt_page_width(a->format, a->tokens);
  for (int t = 0; t < a->count; t++) {
    const float *key = a->keys + t * a->stride;
    float *row = a->scratch + (size_t)t * stride;
    if (a->inverse) for (int d = 0; d < dim; d++) row[d] = key[d] * a->inverse[t] * a->norm[d];
    else memcpy(row, key, sizeof(float) * (size_t)dim);
    if (a->temporal) memcpy(a->temporal + (size_t)t * a->temporal_channels, row, sizeof(float) * (size_t)a->temporal_channels);
    if (!a->cosines) continue;
    const float *cosines = a->cosines + (size_t)t * (dim / 2), *sines = a->sines + (size_t)t * (dim / 2);
    for (int p = 0; p < dim / 2; p++) {
      const float x = row[2 * p], y = row[2 * p + 1];
      row[2 * p] = x * cosines[p] - y * sines[p];
      row[2 * p + 1] = x * sines[p] + y * cosines[p];
    }
  }
  if (a->mean_key) summarize(a->scratch, stride, dim, a->count, a->mean_key, a->dispersion);
  pack_keys(a->format, a->key_page, a->scratch, stride, 0, dim, dim, width, a->count);
  switch (a->format) {
    case LT_F32: pack_values_f32(a->value_page, a->values, a->stride, dim, a->count); break;
    case LT_BF16: pack_values_bf16(a->value_page, a->values, a->stride, dim, a->tokens, a->count); break;
    default: pack_values_int8(a->value_page, a->values, a->stride, dim, a->tokens, a->count);
  }
}
LT_DISPATCH(lt_write_page, (const lt_write_page_arguments *a), (a))

// MARK: Reading

// Keys [head_dim][wide], wide being width rounded up to 16, columns from count on zero.
LT_INLINE void lt_unpack_keys_body(int format, const void *page, int head_dim, int tokens, int count, float *out) {
  const int width = lt_page_width(format, tokens), wide = (width + 15) / 16 * 16;
  const lt_key_head *head = page;
  const int8_t *numbers = (const int8_t *)page + lt_key_head_bytes(head_dim);
  for (int d = 0; d < head_dim; d++) {
    float *row = out + (size_t)d * wide;
    switch (format) {
      case LT_F32: memcpy(row, (const float *)page + (size_t)d * width, sizeof(float) * (size_t)count); break;
      case LT_BF16:
        for (int t = 0; t < count; t++) row[t] = lt_float_of(((const uint16_t *)page)[((size_t)(d / 2) * width + t) * 2 + d % 2]);
        break;
      default:
        for (int t = 0; t < count; t++)
          row[t] = lt_float_of(head->means[d]) + head->step * numbers[((size_t)(d / 4) * width + t) * 4 + d % 4];
    }
    for (int t = count; t < wide; t++) row[t] = 0;
  }
}
LT_DISPATCH(lt_unpack_keys, (int format, const void *page, int head_dim, int tokens, int count, float *out), (format, page, head_dim, tokens, count, out))

// Values [count][channels], channels from head_dim on zero.
LT_INLINE void lt_unpack_values_body(int format, const void *page, int head_dim, int tokens, int count, float *out) {
  const int all = lt_channels(head_dim), padded = lt_value_tokens(tokens);
  const float *steps = page;
  const int8_t *numbers = (const int8_t *)(steps + padded);
  for (int t = 0; t < count; t++) {
    float *row = out + (size_t)t * all;
    for (int panel = 0; panel < all; panel += LT_PANEL) {
      const int channels = all - panel < LT_PANEL ? all - panel : LT_PANEL;
      const size_t first = (size_t)panel * padded + (size_t)(t / 2) * channels * 2 + t % 2;
      switch (format) {
        case LT_F32: memcpy(row + panel, (const float *)page + (size_t)t * all + panel, sizeof(float) * (size_t)channels); break;
        case LT_BF16: for (int c = 0; c < channels; c++) row[panel + c] = lt_float_of(((const uint16_t *)page)[first + 2 * c]); break;
        default: for (int c = 0; c < channels; c++) row[panel + c] = steps[t] * numbers[first + 2 * c];
      }
    }
  }
}
LT_DISPATCH(lt_unpack_values, (int format, const void *page, int head_dim, int tokens, int count, float *out), (format, page, head_dim, tokens, count, out))

// MARK: Turning

LT_INLINE void lt_turn_page_body(const lt_turn_page_arguments *a) {
  const int dim = a->head_dim, pairs = a->temporal_channels / 2, stride = lt_channels(dim);
  const int width = lt_page_width(a->format, a->tokens), wide = (width + 15) / 16 * 16;
  float *rows = a->scratch, *columns = rows + (size_t)64 * stride;
  // What does not turn is read back, for the statistics alone.
  lt_unpack_keys_body(a->format, a->key_page, dim, a->tokens, a->count, columns);
  for (int t = 0; t < a->count; t++) {
    float *row = rows + (size_t)t * stride;
    for (int d = 2 * pairs; d < dim; d++) row[d] = columns[(size_t)d * wide + t];
    const float *original = a->temporal + (size_t)t * 2 * pairs;
    const float *cosines = a->cosines + (size_t)(t / a->tokens_per_frame) * pairs, *sines = a->sines + (size_t)(t / a->tokens_per_frame) * pairs;
    for (int p = 0; p < pairs; p++) {
      const float x = original[2 * p], y = original[2 * p + 1];
      row[2 * p] = x * cosines[p] - y * sines[p];
      row[2 * p + 1] = x * sines[p] + y * cosines[p];
    }
  }
  summarize(rows, stride, dim, a->count, a->mean_key, a->dispersion);
  pack_keys(a->format, a->key_page, rows, stride, 0, 2 * pairs, dim, width, a->count);
}
LT_DISPATCH(lt_turn_page, (const lt_turn_page_arguments *a), (a))
