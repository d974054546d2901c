/* Loads each file of a corpus, runs what can be run and detects where boxes
 * can be made, for sanitizers; with AQD_FUZZ the same for what libFuzzer makes
 * (docs/engine.md). AQD_ISA may name the instructions. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aqd.h"

enum { kMaxSide = 256, kMaxOutputs = 64, kMaxValues = 1 << 20 };

/* Profiles what was run, and checks what is told of the first operators. */
static void profile(aqd_model *model, int program, const void *input,
                    int32_t side, int32_t *const *outputs) {
  enum { kOps = 5 };
  aqd_op_profile *ops = malloc(kOps * sizeof *ops);
  const size_t size = sizeof *ops;
  int32_t count;
  if (ops == NULL ||
      aqd_profile(model, program, input, side, side, outputs, ops, size - 1,
                  kOps, &count) != AQD_BAD_INPUT ||
      count != 0 ||
      aqd_profile(model, program, input, side, side, outputs, ops, size, kOps,
                  &count) != AQD_OK ||
      count < 1) {
    exit(2);
  }
  for (int i = 0; i < kOps && i < count; ++i) {
    const aqd_op_profile *op = &ops[i];
    if (strlen(op->name) == 0 || strlen(op->kind) == 0 || op->bytes < 1 ||
        op->nanoseconds < 0 || (op->macs > 0) != (op->products > 0) ||
        (op->macs > 0) != (op->operand_bits > 0) || op->shape[0] < 1) {
      exit(2);
    }
  }
  free(ops);
}

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
      if (ran) profile(model, program, input, side, outputs);
    }
    while (made > 0) free(outputs[--made]);
    free(input);
  }
  return ran;
}

/* Detects in images of a few sizes; returns in how many. */
static int detect(aqd_model *model) {
  static const int32_t sizes[][2] = {{1, 1}, {12, 17}, {40, 9}};
  int detected = 0;
  for (int32_t i = 0; aqd_label(model, i) != NULL; ++i) {
    detected -= strlen(aqd_label(model, i)) > 1000;
  }
  for (int i = 0; i < 3; ++i) {
    const int32_t height = sizes[i][0], width = sizes[i][1], capacity = 7;
    const size_t bytes = 3 * (size_t)height * (size_t)width;
    uint8_t *pixels = malloc(bytes);
    aqd_detection *found = malloc((size_t)capacity * sizeof *found);
    int32_t count;
    if (pixels == NULL || found == NULL) exit(2);
    for (size_t k = 0; k < bytes; ++k) pixels[k] = (uint8_t)(k * k * 7);
    if (aqd_detect(model, pixels, height, width, 3 * width, found, capacity,
                   &count) == AQD_OK) {
      ++detected;
      if (count < 0 || count > aqd_max_detections(model)) exit(2);
    }
    free(pixels);
    free(found);
  }
  return detected > 0;
}

/* What became of files. */
struct counts {
  int loaded, ran, detected;
};

static void load_and_run(const void *content, size_t length,
                         struct counts *counts) {
  char message[100];
  aqd_model *model;
  const aqd_options options = {sizeof options, 2, getenv("AQD_ISA")};
  const int status =
      aqd_load(content, length, &options, &model, message, sizeof message);
  if (status == AQD_OK) {
    ++counts->loaded;
    counts->ran += run(model, 0);
    counts->detected += detect(model);
  } else if (model != NULL || strlen(message) == 0) {
    abort();
  }
  aqd_free(model);
}

#ifdef AQD_FUZZ

int LLVMFuzzerTestOneInput(const uint8_t *content, size_t length) {
  struct counts counts = {0, 0, 0};
  load_and_run(content, length, &counts);
  return 0;
}

#else

int main(int argc, char **argv) {
  FILE *corpus = argc == 2 ? fopen(argv[1], "rb") : NULL;
  uint64_t length;
  struct counts counts = {0, 0, 0};
  if (corpus == NULL) return 2;
  while (fread(&length, sizeof length, 1, corpus) == 1) {
    /* Not one byte more, so that a read behind the end is seen. */
    char *content = malloc(length);
    if (content == NULL || fread(content, 1, length, corpus) != length) {
      return 2;
    }
    load_and_run(content, length, &counts);
    free(content);
  }
  printf("%d %d %d\n", counts.loaded, counts.ran, counts.detected);
  return fclose(corpus);
}

#endif
