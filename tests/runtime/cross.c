/* Runs programs that it reads from its input and writes what they give, on
 * machines that have little: two functions, and memory.
 *
 * Each job is six numbers of 32 bits (bytes of the file, program, count,
 * height, width, bytes of the input), the file and the input. What is written
 * for each output is its channels, height and width and the values of all.
 * AQD_ISA may name the instructions. Two threads share the work where there are
 * threads.
 *
 * If the program is -1, the input is a picture, and what is written is how many
 * objects are in it and what an aqd_detection holds of each. */

#include "aqd.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#endif

enum { kMaxOutputs = 64, kMessage = 200 };

static int get(void *to, size_t count) {
  char *at = to;
  while (count > 0) {
    const ssize_t got = read(0, at, (unsigned)count);
    if (got <= 0) return 0;
    at += got;
    count -= (size_t)got;
  }
  return 1;
}

static int put(const void *from, size_t count) {
  const char *at = from;
  while (count > 0) {
    const ssize_t gone = write(1, at, (unsigned)count);
    if (gone <= 0) return 0;
    at += gone;
    count -= (size_t)gone;
  }
  return 1;
}

static void *get_new(int32_t count) {
  void *made = malloc((size_t)count);
  return made != NULL && get(made, (size_t)count) ? made : NULL;
}

static int run(aqd_model *model, const int32_t *job, const void *input) {
  const int32_t program = job[1], count = job[2], height = job[3],
                width = job[4];
  const int outputs = aqd_output_count(model, program);
  int32_t *made[kMaxOutputs], shapes[kMaxOutputs][3];
  size_t sizes[kMaxOutputs];
  if (outputs > kMaxOutputs) return 0;
  for (int i = 0; i < outputs; ++i) {
    int32_t *shape = shapes[i];
    if (aqd_output_shape(model, program, i, height, width, shape)) return 0;
    sizes[i] = (size_t)count * (size_t)shape[0] * (size_t)shape[1] *
               (size_t)shape[2] * sizeof(int32_t);
    made[i] = malloc(sizes[i]);
    if (made[i] == NULL) return 0;
  }
  if (aqd_run(model, program, input, count, height, width, made)) return 0;
  for (int i = 0; i < outputs; ++i) {
    if (!put(shapes[i], sizeof shapes[i]) || !put(made[i], sizes[i])) return 0;
    free(made[i]);
  }
  return 1;
}

static int detect(aqd_model *model, const int32_t *job, const void *input) {
  const int32_t limit = aqd_max_detections(model);
  const size_t each = sizeof(aqd_detection);
  aqd_detection *found = malloc((size_t)limit * each);
  int32_t count;
  if (found == NULL || aqd_detect(model, input, job[3], job[4], 3 * job[4],
                                  found, limit, &count) != AQD_OK) {
    return 0;
  }
  const int done = put(&count, sizeof count) && put(found, (size_t)count * each);
  free(found);
  return done;
}

int main(void) {
  int32_t job[6];
#ifdef _WIN32 /* which takes bytes for ends of lines and of the input */
  _setmode(0, _O_BINARY);
  _setmode(1, _O_BINARY);
#endif
  while (get(job, sizeof job)) {
    char message[kMessage];
    aqd_model *model;
    void *content = get_new(job[0]);
    void *input = get_new(job[5]);
    if (content == NULL || input == NULL) return 3;
    const aqd_options options = {sizeof options, 2, getenv("AQD_ISA")};
    const int status = aqd_load(content, (size_t)job[0], &options, &model,
                                message, kMessage);
    free(content);
    if (status != AQD_OK) {
      (void)!write(2, message, strlen(message));
      return 4;
    }
    const int done =
        job[1] < 0 ? detect(model, job, input) : run(model, job, input);
    if (!done) return 5;
    free(input);
    aqd_free(model);
  }
  return 0;
}
