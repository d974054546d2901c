/* Runs compiled detectors (model.aqd) on integers alone.
 *
 * What it computes is docs/integer_contract.md, to the last bit. Nothing is
 * thrown across this border and there is no global state: a model is used by
 * one thread at a time, several models by several threads.
 */
#ifndef AQD_H
#define AQD_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
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
  AQD_NO_MEMORY = 3
};

/* Reads a model from the content of a file, which is copied. Its programs run
 * on so many threads, the caller's included; results do not depend on it.
 *
 * On failure *model is NULL, and message (capacity bytes, always ended by a
 * zero) holds one line that names what is wrong. The environment's AQD_ISA
 * (portable; avx2, avxvnni, avx512, amx; neon; wasm) forces kernels; all give
 * the same integers. */
AQD_API int aqd_load(const void *content, size_t length, int threads,
                     aqd_model **model, char *message, size_t capacity);

AQD_API void aqd_free(aqd_model *model);

/* Number of programs: the network's is 0, a second stage's follow. */
AQD_API int aqd_program_count(const aqd_model *model);

/* Number of tensors that leave a program. */
AQD_API int aqd_output_count(const aqd_model *model, int program);

/* Channels, height and width of an output for an input's height and width. */
AQD_API int aqd_output_shape(aqd_model *model, int program, int output,
                     int32_t height, int32_t width, int32_t shape[3]);

/* Runs a program on a batch of inputs of one size.
 *
 * input: count x height x width x channels; uint8_t pixels for the network,
 * int32_t averages of regions for a second stage.
 * outputs: for each output a buffer of count x height x width x channels. */
AQD_API int aqd_run(aqd_model *model, int program, const void *input, int32_t count,
            int32_t height, int32_t width, int32_t *const *outputs);

#ifdef __cplusplus
}
#endif

#endif
