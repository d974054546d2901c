/* Finds the objects in a picture on a machine without files: the detector is a
 * part of the program.
 *
 *   python tools/export.py model.aqd --format header --out model.h
 *   cc -I. firmware.c $(pkg-config --cflags --libs --static aqd) -o firmware
 *
 * Of the machine it needs malloc, free, and write for the lines that it sends:
 * for each object the label, the score in units of 2^-24, and the left, upper,
 * right and lower edge of its box in 256ths of a pixel. */

#include "model.h"

#include <aqd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEIGHT = 96, WIDTH = 128, CHANNELS = 3, MESSAGE = 200 };

static uint8_t pixels[HEIGHT][WIDTH][CHANNELS];

/* Stands for a camera that fills the memory of a picture. */
static void take_picture(void) {
  for (int y = 0; y < HEIGHT; ++y) {
    for (int x = 0; x < WIDTH; ++x) {
      for (int channel = 0; channel < CHANNELS; ++channel) {
        pixels[y][x][channel] = (uint8_t)(x * y + 60 * channel);
      }
    }
  }
}

static int send(const char *text) {
  size_t left = strlen(text);
  while (left > 0) {
    const ssize_t gone = write(1, text, left);
    if (gone <= 0) return 0;
    text += gone;
    left -= (size_t)gone;
  }
  return 1;
}

/* Sends a blank and a number, without the formatted output of a C library. */
static int send_number(int32_t number) {
  char text[13];
  char *at = text + sizeof text - 1;
  int64_t rest = number < 0 ? -(int64_t)number : number;
  *at = '\0';
  do {
    *--at = (char)('0' + rest % 10);
    rest /= 10;
  } while (rest > 0);
  if (number < 0) *--at = '-';
  *--at = ' ';
  return send(at);
}

static int send_detection(const aqd_model *model,
                          const aqd_detection *detection) {
  return send(aqd_label(model, detection->label)) &&
         send_number(detection->score) && send_number(detection->x0) &&
         send_number(detection->y0) && send_number(detection->x1) &&
         send_number(detection->y1) && send("\n");
}

int main(void) {
  char message[MESSAGE];
  aqd_model *model;
  int32_t count;
  if (aqd_load(model_aqd, model_aqd_size, NULL, &model, message, MESSAGE)) {
    send(message);
    send("\n");
    return 2;
  }
  const int32_t limit = aqd_max_detections(model);
  aqd_detection *found = malloc((size_t)limit * sizeof *found + 1);
  if (found == NULL) return 3;
  take_picture();
  if (aqd_detect(model, pixels[0][0], HEIGHT, WIDTH, sizeof pixels[0], found,
                 limit, &count)) {
    return 4;
  }
  for (int32_t i = 0; i < count; ++i) {
    if (!send_detection(model, &found[i])) return 5;
  }
  free(found);
  aqd_free(model);
  return 0;
}
