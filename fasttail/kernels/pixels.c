/* Which kind of processor this is. */
#include "cpu.h"
#include "pixels.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

extern const ft_pixels ft_pixels_c, ft_pixels_avx2, ft_pixels_avx512, ft_pixels_neon;

static const ft_pixels *chosen = &ft_pixels_c;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void)
{
    const ft_pixels *kinds[4];
    int count = 0;
#if defined(__x86_64__)
    if (ft_cpu.avx512 && ft_cpu.avx2)
        kinds[count++] = &ft_pixels_avx512;
    if (ft_cpu.avx2)
        kinds[count++] = &ft_pixels_avx2;
#elif defined(__aarch64__)
    kinds[count++] = &ft_pixels_neon;
#endif
    kinds[count++] = &ft_pixels_c;
    const char *wanted = getenv("FASTTAIL_SIMD");
    chosen = kinds[0];
    for (int i = 0; wanted && i < count; i++)
        if (!strcmp(kinds[i]->name, wanted))
            chosen = kinds[i];
}

const ft_pixels *ft_pixels_here(void)
{
    pthread_once(&once, choose);
    return chosen;
}

/* Which kind is taken. */
FT_API const char *ft_simd(void) { return ft_pixels_here()->name; }
