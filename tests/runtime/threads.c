/* Lets threads use one model at a time, for ThreadSanitizer:
 *
 *   threads model.aqd CALLERS THREADS
 *
 * Each caller runs the network and detects where boxes can be made, at several
 * sizes, and compares with what was made before, alone. AQD_ISA may name the
 * instructions. */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aqd.h"

enum {
  kSizes = 3,
  kMaxCallers = 64,
  kMaxOutputs = 64,
  kMaxFound = 100,
  kRounds = 2
};

static const int32_t kSides[kSizes][2] = {{64, 64}, {32, 32}, {32, 96}};

/* What was made of an image. */
struct made {
  int32_t *outputs[kMaxOutputs];
  size_t bytes[kMaxOutputs];
  int32_t count;
  aqd_detection found[kMaxFound];
};

static aqd_model *model;
static int are_boxes;
static uint8_t *images[kSizes];
static struct made alone[kSizes];

static void *get_memory(size_t bytes) {
  void *memory = malloc(bytes + 1);
  if (memory == NULL) abort();
  return memory;
}

/* Runs and detects with an image; false if that is not possible. */
static int use(int index, struct made *made) {
  const int32_t height = kSides[index][0], width = kSides[index][1];
  const int count = aqd_output_count(model, 0);
  for (int i = 0; i < count; ++i) {
    int32_t shape[3];
    if (aqd_output_shape(model, 0, i, height, width, shape)) return 0;
    made->bytes[i] = sizeof(int32_t) * (size_t)shape[0] * (size_t)shape[1] *
                     (size_t)shape[2];
    made->outputs[i] = get_memory(made->bytes[i]);
  }
  if (aqd_run(model, 0, images[index], 1, height, width, made->outputs)) {
    return 0;
  }
  made->count = 0;
  return !are_boxes ||
         aqd_detect(model, images[index], height, width, 3 * width, made->found,
                    kMaxFound, &made->count) == AQD_OK;
}

static int is_same(const struct made *x, const struct made *y) {
  int same = x->count == y->count;
  for (int i = 0; i < aqd_output_count(model, 0); ++i) {
    same = same && x->bytes[i] == y->bytes[i] &&
           memcmp(x->outputs[i], y->outputs[i], x->bytes[i]) == 0;
  }
  return same && memcmp(x->found, y->found,
                        (size_t)x->count * sizeof *x->found) == 0;
}

static void forget(struct made *made) {
  for (int i = 0; i < aqd_output_count(model, 0); ++i) free(made->outputs[i]);
}

/* Begins with the size of its number; returns NULL if all is the same. */
static void *call(void *number) {
  const int first = *(const int *)number;
  void *wrong = NULL;
  for (int i = first; i < first + kRounds * kSizes; ++i) {
    struct made made;
    if (!use(i % kSizes, &made)) return number;
    if (!is_same(&made, &alone[i % kSizes])) wrong = number;
    forget(&made);
  }
  return wrong;
}

static int load(const char *name, int threads) {
  static char message[200];
  FILE *file = fopen(name, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) return 0;
  const size_t length = (size_t)ftell(file);
  void *content = get_memory(length);
  rewind(file);
  if (fread(content, 1, length, file) != length) return 0;
  fclose(file);
  const aqd_options options = {sizeof options, threads, getenv("AQD_ISA")};
  if (aqd_load(content, length, &options, &model, message, sizeof message)) {
    return 0;
  }
  free(content);
  are_boxes = message[0] == '\0';
  return 1;
}

int main(int argc, char **argv) {
  pthread_t callers[kMaxCallers];
  int numbers[kMaxCallers], count, wrong = 0;
  if (argc != 4 || (count = atoi(argv[2])) > kMaxCallers ||
      !load(argv[1], atoi(argv[3])) ||
      aqd_output_count(model, 0) > kMaxOutputs ||
      aqd_max_detections(model) > kMaxFound) {
    return 2;
  }
  for (int i = 0; i < kSizes; ++i) {
    const size_t bytes = 3 * (size_t)kSides[i][0] * (size_t)kSides[i][1];
    images[i] = get_memory(bytes);
    for (size_t k = 0; k < bytes; ++k) images[i][k] = (uint8_t)(k * k * 7 >> i);
    if (!use(i, &alone[i])) return 3;
  }
  for (int i = 0; i < count; ++i) {
    numbers[i] = i;
    if (pthread_create(&callers[i], NULL, call, &numbers[i])) return 2;
  }
  for (int i = 0; i < count; ++i) {
    void *found;
    if (pthread_join(callers[i], &found)) return 2;
    wrong += found != NULL;
  }
  for (int i = 0; i < kSizes; ++i) {
    forget(&alone[i]);
    free(images[i]);
  }
  aqd_free(model);
  return wrong > 0 ? 4 : 0;
}
