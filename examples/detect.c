/* Finds the objects in a picture with a compiled detector. It computes with
 * integers only.
 *
 *   cc detect.c $(pkg-config --cflags --libs --static aqd) -o detect
 *   ./detect model.aqd picture.ppm
 *
 * It prints a line for each object: label, score in per mille, and the left,
 * upper, right and lower edge of its box in pixels. */

#include <aqd.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char *what, const char *name) {
  fprintf(stderr, "error: %s: %s\n", name, what);
  return 2;
}

/* Returns the content of a file with a final '\0', or NULL on failure. The
 * caller frees it. */
static unsigned char *read_file(const char *name, size_t *length) {
  FILE *file = fopen(name, "rb");
  unsigned char *content = NULL;
  long size = -1;
  if (file == NULL) return NULL;
  if (fseek(file, 0, SEEK_END) == 0) size = ftell(file);
  rewind(file);
  if (size >= 0) content = malloc((size_t)size + 1);
  if (content != NULL) {
    *length = fread(content, 1, (size_t)size, file);
    content[*length] = '\0';
  }
  fclose(file);
  return content;
}

/* Prints a coordinate in 1/256 pixel as pixels with two decimals. It may be
 * negative: boxes of some detectors reach beyond the image. */
static void print_pixels(int32_t edge) {
  const int64_t distance = edge < 0 ? -(int64_t)edge : edge;
  const int64_t hundredths = (distance * 100 + 128) / 256;
  const char *sign = edge < 0 && hundredths > 0 ? "-" : "";
  printf(" %s%d.%02d", sign, (int)(hundredths / 100), (int)(hundredths % 100));
}

int main(int argc, char **argv) {
  char message[200];
  aqd_model *model;
  size_t model_length = 0, length = 0;
  int32_t count;
  int width = 0, height = 0, largest = 0, start = 0;
  if (argc != 3) return fail("give a model.aqd and a picture.ppm", argv[0]);
  unsigned char *content = read_file(argv[1], &model_length);
  if (content == NULL) return fail("cannot be read", argv[1]);
  if (aqd_load(content, model_length, NULL, &model, message, sizeof message)) {
    return fail(message, argv[1]);
  }
  free(content);
  /* A PPM file has "P6", width, height, 255, one white space and the pixels. */
  unsigned char *image = read_file(argv[2], &length);
  if (image == NULL) return fail("cannot be read", argv[2]);
  sscanf((const char *)image, "P6 %d %d %d%*c%n", &width, &height, &largest,
         &start);
  const size_t at = (size_t)start, columns = (size_t)width;
  if (start == 0 || largest != 255 || width < 1 || height < 1 ||
      (length - at) / 3 / columns < (size_t)height) {
    return fail("not a whole P6 picture of 8 bits without comments", argv[2]);
  }
  const int32_t limit = aqd_max_detections(model);
  aqd_detection *detections = malloc((size_t)limit * sizeof *detections + 1);
  if (detections == NULL) return fail("out of memory", argv[1]);
  if (aqd_detect(model, image + at, height, width, (ptrdiff_t)(3 * columns),
                 detections, limit, &count)) {
    return fail("not an image that the detector accepts", argv[2]);
  }
  for (int32_t i = 0; i < count; ++i) {
    const aqd_detection *detection = &detections[i];
    /* A score of 1 is 2^24. */
    printf("%s %d", aqd_label(model, detection->label),
           (int)((detection->score * INT64_C(1000) + (1 << 23)) >> 24));
    print_pixels(detection->x0);
    print_pixels(detection->y0);
    print_pixels(detection->x1);
    print_pixels(detection->y1);
    printf("\n");
  }
  free(detections);
  free(image);
  aqd_free(model);
  return 0;
}
