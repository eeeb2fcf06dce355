/* The pixels' arithmetic in plain C. */
#include "pixels.h"

#include <string.h>

#define OP static inline __attribute__((always_inline))
#define KIND static

#include "simd_c.h"
#include "idct_body.h"
#include "resize_body.h"

const ft_pixels ft_pixels_c = {"c", idct, samples, across, down, colour, outside, spread, bring_back};
