/* The pixels' arithmetic in plain C. */
#include "pixels.h"

#include <string.h>

#define OP static __attribute__((unused))
#define KIND static

#include "simd_c.h"
#include "idct_body.h"
#include "resize_body.h"

const ft_pixels ft_pixels_c = {"c", idct, samples, across, down, colour, outside, bring_back};
