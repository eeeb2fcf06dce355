/* The processor is asked once, when the library is loaded: in a virtual machine each question takes
 * microseconds. The compiler's own __builtin_cpu_supports needs a run-time that zig's does not have, which
 * says no to everything. */
#include "cpu.h"

struct ft_cpu ft_cpu;

#if defined(__x86_64__)
#include <cpuid.h>

__attribute__((constructor)) static void ask(void)
{
    unsigned a, b, c, d, saved, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return;
    const int fma = (c & bit_FMA) != 0;
    /* Which registers the system saves: 6 is YMM, 0xe6 ZMM and the masks too. */
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if ((saved & 6) != 6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return;
    ft_cpu.fma = fma;
    ft_cpu.avx2 = (b & bit_AVX2) != 0;
    ft_cpu.avx512 = (saved & 0xe6) == 0xe6 && (b & bit_AVX512F) && (b & bit_AVX512BW);
}
#endif
