/* The pixels' arithmetic in AVX-512: the inverse DCT in vectors of 64 bytes, the rest in AVX2's of 32,
 * which is what two rows of blocks fill. */
#include "pixels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define KIND static __attribute__((target("avx512f,avx512bw")))
#define OP static inline __attribute__((always_inline, target("avx512f,avx512bw")))

#include "simd_avx512.h"
#include "idct_body.h"

void ft_idct_avx512(int16_t *tile, const int16_t *upper, const int16_t *lower, int32_t blocks,
                    const int16_t quantizer[FT_BLOCK], int32_t centre)
{
    idct(tile, upper, lower, blocks, quantizer, centre);
}
#endif
