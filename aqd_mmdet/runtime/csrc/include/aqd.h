/* Runs compiled detectors (model.aqd) on integers alone: from bytes to boxes,
 * or a network by itself.
 *
 * What it computes is docs/integer_contract.md, to the last bit. It throws no
 * exceptions, has no global state and reads nothing of the environment.
 *
 * Threads. Any number of threads may use a model at a time, and each call gives
 * the same integers as alone. Weights are shared, and never change after
 * aqd_load; each call has a workspace for what it writes.
 *
 * At most as many calls run at a time as the model has threads, or as the
 * machine has processors, if these are more. Further calls wait, first come,
 * first served. The model keeps the workspaces for later calls: there are as
 * many as calls that ever ran at a time, and each is as large as its largest
 * image needed. The model's threads help while there are fewer calls than
 * threads, so that no more cores are used than there are threads.
 *
 * aqd_free comes after all other calls with its model.
 *
 * A forked process may use its copy of a model, whatever other threads did with
 * it at the fork. Each call runs there on its caller's thread alone.
 *
 * Where the platform has no threads, a model has one workspace.
 */
#ifndef AQD_H
#define AQD_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(aqd_EXPORTS) /* while the DLL is built */
#define AQD_API __declspec(dllexport)
#elif defined(__GNUC__) && !defined(_WIN32)
#define AQD_API __attribute__((visibility("default")))
#else
#define AQD_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct aqd_model aqd_model;

enum aqd_status {
  AQD_OK = 0,
  AQD_BAD_FILE = 1,  /* not as docs/file_format.md says */
  AQD_BAD_INPUT = 2, /* arguments that the program does not take */
  AQD_NO_MEMORY = 3  /* none for maps or an image of that size */
};

/* How a model runs. Results depend on none of it. */
typedef struct aqd_options {
  size_t size;     /* sizeof(aqd_options): later versions may have more */
  int32_t threads; /* of a call, the caller's included; 1 to 1024 */
  const char *isa; /* one of aqd_isa_name; NULL for the best */
} aqd_options;

/* The instruction sets that this machine can run (portable, avx2, avxvnni,
 * avx512, amx, neon, wasm), the best first: how many there are, and each by
 * name; NULL if there is no such one. */
AQD_API int aqd_isa_count(void);
AQD_API const char *aqd_isa_name(int index);

/* Reads a model from the content of a file, which is copied. Without options
 * (NULL) it runs on one thread, by the best instructions.
 *
 * While a model is read, the process ends (abort) where memory is too short for
 * it.
 *
 * On failure *model is NULL, and message (capacity bytes, always ended by a
 * zero) holds one line that says where something is wrong, what was expected
 * and what was found. Options that cannot be had are AQD_BAD_INPUT.
 *
 * Where the networks can be run but boxes cannot be made of what they give, a
 * model is made all the same, and message says why aqd_detect will refuse it;
 * else it is empty. */
AQD_API int aqd_load(const void *content, size_t length,
                     const aqd_options *options, aqd_model **model,
                     char *message, size_t capacity);

AQD_API void aqd_free(aqd_model *model);

typedef struct aqd_detection {
  int32_t x0, y0, x1, y1; /* edges in 256ths of a pixel of the image */
  int32_t label;          /* index of a class name */
  int32_t score;          /* in units of 2^-24, from 0 to 2^24 */
} aqd_detection;

/* Finds objects in one image.
 *
 * pixels: RGB, three bytes a pixel, the first of the upper left pixel; rows are
 * stride bytes apart, which is at least 3 * width, or below 0 in an image that
 * is stored from its lowest row. No side is longer than 16384 pixels or than
 * 200 times the other.
 * found: the best first; as many as capacity allows are written.
 * count: how many there are, never more than aqd_max_detections.
 *
 * What is an image of the wrong size or stride, or one whose network's maps do
 * not fit each other, is AQD_BAD_INPUT. Memory is kept for the next image. */
AQD_API int aqd_detect(aqd_model *model, const uint8_t *pixels, int32_t height,
                       int32_t width, ptrdiff_t stride, aqd_detection *found,
                       int32_t capacity, int32_t *count);

/* Most detections of one image; 0 if aqd_detect refuses the model. */
AQD_API int32_t aqd_max_detections(const aqd_model *model);

/* Class names: how many there are, and each in UTF-8; NULL if there is no such
 * one. They live as long as the model. */
AQD_API int32_t aqd_label_count(const aqd_model *model);
AQD_API const char *aqd_label(const aqd_model *model, int32_t index);

/* Number of programs: the network's is 0, a second stage's follow. */
AQD_API int aqd_program_count(const aqd_model *model);

/* Number of tensors that leave a program. */
AQD_API int aqd_output_count(const aqd_model *model, int program);

/* Channels, height and width of an output for an input's height and width. It
 * waits for its turn as calls that run something do. */
AQD_API int aqd_output_shape(aqd_model *model, int program, int output,
                             int32_t height, int32_t width, int32_t shape[3]);

/* Runs a program on a batch of inputs of one size.
 *
 * input: count x height x width x channels; uint8_t pixels for the network,
 * int32_t averages of regions for a second stage.
 * outputs: for each output a buffer of count x height x width x channels. */
AQD_API int aqd_run(aqd_model *model, int program, const void *input,
                    int32_t count, int32_t height, int32_t width,
                    int32_t *const *outputs);

/* An operator as it is executed: those that are fused are one. */
typedef struct aqd_op_profile {
  const char *name; /* of the first one, in the file; as long as the model */
  /* The kernel. Of convolutions: depthwise, direct, amx, lut, winograd, or
   * portable. Of requantisations and additions that follow none: elementwise.
   * Of others the kind that the file has (MaxPool, Lookup, ...). */
  const char *kind;
  int64_t nanoseconds; /* wall time, of all threads; 0 without a clock */
  int64_t macs;        /* multiply-accumulates of a convolution, else 0 */
  /* Multiplications that the kernel's algorithm needs: fewer than macs with
   * winograd, and with lut, whose lookups count as one each. */
  int64_t products;
  /* Of codes, weights and tables that are read, and codes that are written,
   * each counted once. */
  int64_t bytes;
  int32_t operand_bits; /* that products multiply: 8 or 16; 0 without any */
  int32_t shape[3];     /* channels, height and width of what it makes */
} aqd_op_profile;

/* Runs a program on one input, as aqd_run does, and measures each operator.
 *
 * ops: in the order in which they run; as many as capacity allows are written.
 * size: sizeof(aqd_op_profile), as later versions may have more; another one
 * is AQD_BAD_INPUT.
 * count: how many operators there are; the same for all inputs. */
AQD_API int aqd_profile(aqd_model *model, int program, const void *input,
                        int32_t height, int32_t width, int32_t *const *outputs,
                        aqd_op_profile *ops, size_t size, int32_t capacity,
                        int32_t *count);

#ifdef __cplusplus
}
#endif

#endif
