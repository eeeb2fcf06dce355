/* The pixels' arithmetic in AVX2: x86-64 processors since 2013. */
#include "pixels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define KIND static __attribute__((target("avx2")))
#define OP static inline __attribute__((always_inline, target("avx2")))

#include "simd_avx2.h"
#include "idct_body.h"
#include "resize_body.h"

const ft_pixels ft_pixels_avx2 = {"avx2", idct,    samples, across,    down,
                                  colour, outside, spread,  bring_back};
const ft_pixels ft_pixels_avx512 = {"avx512", ft_idct_avx512, samples, across,    down,
                                    colour,   outside,        spread,  bring_back};
#endif
