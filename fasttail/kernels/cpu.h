/* What this x86 processor and its system can do. */
#ifndef FASTTAIL_CPU_H
#define FASTTAIL_CPU_H

extern struct ft_cpu {
    int avx2, fma, avx512; /* avx512: F and BW */
} ft_cpu;

#endif
