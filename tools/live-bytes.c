// What a program has allocated and not freed, noted fifty times a second: resident memory holds fragments besides.
//   cc -O1 -shared -fPIC tools/live-bytes.c -o live-bytes.so -lpthread
//   LD_PRELOAD=$PWD/live-bytes.so generate-video ...      writes live-bytes-PID.log
// A line is: bytes in the C library's heaps, bytes in blocks of their own (mmap), bytes that the heaps hold free.
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static void *watch(void *unused) {
  char name[64];
  snprintf(name, sizeof name, "live-bytes-%d.log", (int)getpid());
  FILE *log = fopen(name, "w");
  while (log) {
    struct mallinfo2 m = mallinfo2();
    fprintf(log, "%zu %zu %zu\n", m.uordblks, m.hblkhd, m.fordblks);
    fflush(log);
    usleep(20000);
  }
  return unused;
}

__attribute__((constructor)) static void begin(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, watch, NULL);
}
