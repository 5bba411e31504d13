#pragma once
// The parts of FFmpeg (5.1 to 7) that Swift needs, and small functions for what it cannot import: macros, variadics, and
// types that changed between versions (SwsContext became public, AVIO's write callback became const).
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/avutil.h>
#include <libavutil/imgutils.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>

static inline int longtake_error_eof(void) { return AVERROR_EOF; }
static inline int longtake_error_again(void) { return AVERROR(EAGAIN); }
static inline int longtake_error_invalid_data(void) { return AVERROR_INVALIDDATA; }

// Writes all of `size` bytes to a file descriptor, at `offset`, or where it stands if that is negative; 0, or the errno that
// stopped it.
static inline int longtake_write_all(int fd, const uint8_t *bytes, size_t size, int64_t offset) {
  while (size > 0) {
    ssize_t n = offset < 0 ? write(fd, bytes, size) : pwrite(fd, bytes, size, offset);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) {
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        poll(&wait, 1, -1);
        continue;
      }
      return errno;
    }
    bytes += n;
    size -= (size_t)n;
    if (offset >= 0) offset += n;
  }
  return 0;
}

// What a muxer has written and the file has not got yet.
typedef struct {
  uint8_t *bytes;
  size_t count, capacity;
} longtake_pending;

#if LIBAVFORMAT_VERSION_MAJOR >= 61
typedef const uint8_t longtake_avio_byte;
#else
typedef uint8_t longtake_avio_byte;
#endif

static inline int longtake_avio_write(void *opaque, longtake_avio_byte *bytes, int size) {
  longtake_pending *pending = opaque;
  size_t needed = pending->count + (size_t)size;
  if (needed > pending->capacity) {
    size_t capacity = needed * 2;
    uint8_t *grown = realloc(pending->bytes, capacity);
    if (!grown) return AVERROR(ENOMEM);
    pending->bytes = grown;
    pending->capacity = capacity;
  }
  memcpy(pending->bytes + pending->count, bytes, (size_t)size);
  pending->count = needed;
  return size;
}

// An output that can only append, to memory: the same bytes for a file and for a pipe.
static inline AVIOContext *longtake_avio_open(void) {
  const int size = 1 << 16;
  unsigned char *buffer = av_malloc(size);
  longtake_pending *pending = calloc(1, sizeof *pending);
  AVIOContext *io = NULL;
  if (buffer && pending) io = avio_alloc_context(buffer, size, 1, pending, NULL, longtake_avio_write, NULL);
  if (!io) {
    av_free(buffer);
    free(pending);
  }
  return io;
}

// The bytes written since they were last taken; they count as taken when `count` is set to zero.
static inline longtake_pending *longtake_avio_pending(AVIOContext *io) {
  avio_flush(io);
  return io->opaque;
}

static inline void longtake_avio_free(AVIOContext *io) {
  if (!io) return;
  longtake_pending *pending = io->opaque;
  free(pending->bytes);
  free(pending);
  av_freep(&io->buffer);
  avio_context_free(&io);
}

// A converter between two pixel formats of one size. `matrix` is an AVColorSpace, used for whichever side is YUV; a range is
// 1 for full and 0 for limited. Rounding is exact and the same on every processor. NULL where the pair is not supported.
static inline void *longtake_converter_open(
    int width, int height, enum AVPixelFormat source, int source_range, enum AVPixelFormat target, int target_range,
    int matrix) {
  struct SwsContext *context = sws_getContext(
      width, height, source, width, height, target,
      SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP | SWS_BITEXACT, NULL, NULL, NULL);
  if (!context) return NULL;
  const int *table = sws_getCoefficients(matrix);
  sws_setColorspaceDetails(context, table, source_range, table, target_range, 0, 1 << 16, 1 << 16);
  return context;
}

static inline int longtake_converter_run(void *converter, const AVFrame *source, AVFrame *target) {
  return sws_scale(
      (struct SwsContext *)converter, (const uint8_t *const *)source->data, source->linesize, 0, source->height,
      target->data, target->linesize);
}

static inline void longtake_converter_free(void *converter) { sws_freeContext((struct SwsContext *)converter); }
