/* Loads each file of a corpus and runs what can be run, for sanitizers; with
 * AQD_FUZZ the same for what libFuzzer makes (docs/engine.md). */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aqd.h"

enum { kMaxSide = 256, kMaxOutputs = 64, kMaxValues = 1 << 20 };

static int run(aqd_model *model, int program) {
  int32_t *outputs[kMaxOutputs];
  const int count = aqd_output_count(model, program);
  int ran = 0;
  if (count > kMaxOutputs) return 0;
  for (int32_t side = 1; side <= kMaxSide && !ran; side *= 2) {
    /* Enough for four channels of either type. */
    void *input = calloc((size_t)side * (size_t)side, 16);
    int made = 0;
    for (; made < count; ++made) {
      int32_t shape[3];
      if (aqd_output_shape(model, program, made, side, side, shape)) break;
      const size_t values =
          (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2];
      if (values > kMaxValues) break;
      outputs[made] = calloc(values, sizeof(int32_t));
    }
    if (made == count && input != NULL) {
      ran = aqd_run(model, program, input, 1, side, side, outputs) == AQD_OK;
    }
    while (made > 0) free(outputs[--made]);
    free(input);
  }
  return ran;
}

/* Returns whether the content was loaded; adds to *ran whether it was run. */
static int load_and_run(const void *content, size_t length, int *ran) {
  char message[100];
  aqd_model *model;
  const int status =
      aqd_load(content, length, 2, &model, message, sizeof message);
  if (status == AQD_OK) {
    *ran += run(model, 0);
  } else if (model != NULL || strlen(message) == 0) {
    abort();
  }
  aqd_free(model);
  return status == AQD_OK;
}

#ifdef AQD_FUZZ

int LLVMFuzzerTestOneInput(const uint8_t *content, size_t length) {
  int ran = 0;
  load_and_run(content, length, &ran);
  return 0;
}

#else

int main(int argc, char **argv) {
  FILE *corpus = argc == 2 ? fopen(argv[1], "rb") : NULL;
  uint64_t length;
  int loaded = 0, ran = 0;
  if (corpus == NULL) return 2;
  while (fread(&length, sizeof length, 1, corpus) == 1) {
    /* Not one byte more, so that a read behind the end is seen. */
    char *content = malloc(length);
    if (content == NULL || fread(content, 1, length, corpus) != length) {
      return 2;
    }
    loaded += load_and_run(content, length, &ran);
    free(content);
  }
  printf("%d %d\n", loaded, ran);
  return fclose(corpus);
}

#endif
