/* Items that our own decoder makes (native.c, planes.c). */
#ifndef FASTTAIL_NATIVE_H
#define FASTTAIL_NATIVE_H

#include "canvas.h"

typedef struct {
    ft_tables tables;
    ft_scratch data[2], blocks;
    ft_canvas canvas;
    int16_t quantizer[FT_COMPONENTS][FT_BLOCK];
} ft_native;

typedef enum { FT_DONE = 0, FT_FAILED = -1, FT_NOT_FOR_US = 1 } ft_outcome;

/* Makes an item from a JPEG. FT_NOT_FOR_US: another decoder must say what is in it. */
ft_outcome ft_native_jpeg(ft_native *native, const ft_item *item, char message[FT_MESSAGE]);

/* Makes an item from planes. */
ft_outcome ft_native_planes(ft_native *native, const ft_item *item, char message[FT_MESSAGE]);

void ft_native_free(ft_native *native);

#endif
