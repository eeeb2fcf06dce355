/* The pixels' arithmetic in NEON, which every 64-bit ARM processor has. */
#include "pixels.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>

#define OP static inline __attribute__((always_inline))
#define KIND static

#include "simd_neon.h"
#include "idct_body.h"
#include "resize_body.h"

const ft_pixels ft_pixels_neon = {"neon", idct,    samples, across,    down,
                                  colour, outside, spread,  bring_back};
#endif
