/* What is done to many numbers at a time, once for each kind of processor. All kinds make the same
 * bits.
 *
 * Samples on their way are int16, 128 to a level. Brightness and RGB go from 0 to 255 levels, so that
 * what is not there, black, is 0; colour differences go from -128 to 127.
 *
 * A *tile* holds 16 rows of a component, column after column: int16 [columns][16]. Summing columns
 * (`across`) then works on whole vectors, whatever the weights.
 */
#ifndef FASTTAIL_PIXELS_H
#define FASTTAIL_PIXELS_H

#include "jpeg.h"

#define FT_TILE 16    /* rows */
#define FT_LEVEL 128  /* a level of 255 */
#define FT_COLUMNS 32 /* rows of output columns are padded to a multiple of this */

/* Up to so many weights, each product is rounded to an int16 and added; beyond, products are added in
 * 32 bits: so many roundings would show. */
#define FT_SHORT 24

typedef struct {
    const char *name;

    /* `blocks` pairs of blocks, one above the other -> a tile of samples, with `centre` added. */
    void (*idct)(int16_t *tile, const int16_t *upper, const int16_t *lower, int32_t blocks,
                 const int16_t quantizer[FT_BLOCK], int32_t centre);

    /* `columns` (a multiple of 8) of 16 rows of bytes -> a tile of samples, from which `centre` is
     * taken. */
    void (*samples)(int16_t *tile, const uint8_t *const rows[FT_TILE], int32_t columns, int32_t centre);

    /* A tile -> 16 rows of `columns` outputs: out[r][x] = sum over k of weights[x][k] tile[first[x] +
     * k][r]. */
    void (*across)(int16_t *out, size_t stride, const int16_t *tile, const int32_t *first,
                   const int16_t *weights, int32_t taps, int32_t columns);

    /* Rows -> a row: out[x] = sum over k of weights[k] rows[k][x]. */
    void (*down)(int16_t *out, const int16_t *const *rows, const int16_t *weights, int32_t taps,
                 int32_t columns);

    /* Rows of components -> `columns` pixels. Writes up to a multiple of FT_COLUMNS. */
    void (*colour)(uint8_t *out, const int16_t *const rows[FT_COMPONENTS], ft_colour colour,
                   int32_t columns);

    /* Whether any of `columns` columns of colours lies outside of RGB by more than FT_GAMUT. So many
     * columns of brightness share one of colours, and so many rows, which is 1 or 2. */
    int (*outside)(const int16_t *y, const int16_t *cb, const int16_t *cr, int32_t columns,
                   int32_t share_x, int32_t share_y);

    /* 16 rows of a column that is shared, 3 of 4 parts `near` and one `next`. Where two rows share one,
     * as well, it is those from row `half` on, `smooth` or not. */
    void (*spread)(int16_t *to, const int16_t *near, const int16_t *next, int32_t half, int32_t share_y,
                   int smooth);

    /* Brings those back that are: changes brightness, and adds to `to_cb` and `to_cr` what must be
     * added to colours. */
    void (*bring_back)(int16_t *y, const int16_t *cb, const int16_t *cr, int16_t *to_cb, int16_t *to_cr,
                       int32_t columns);
} ft_pixels;

/* 15 bits of fraction. */
#define FT_CR_RED 13173   /* 1.402 - 1 */
#define FT_CB_GREEN 11277 /* 0.344136 */
#define FT_CR_GREEN 23401 /* 0.714136 */
#define FT_CB_BLUE 25297  /* 1.772 - 1 */
#define FT_RED_Y 9798     /* 0.299 */
#define FT_GREEN_Y 19235  /* 0.587 */
#define FT_BLUE_Y 3735    /* 0.114 */
#define FT_BLUE_CB 18492  /* 1 / 1.772 */
#define FT_RED_CR 23372   /* 1 / 1.402 */

/* How far colours may lie outside of RGB before they are brought back (canvas.c): four levels. */
#define FT_GAMUT (4 * FT_LEVEL)

#if defined(__x86_64__)
/* In vectors of 64 bytes; all else gains nothing by them. */
void ft_idct_avx512(int16_t *tile, const int16_t *upper, const int16_t *lower, int32_t blocks,
                    const int16_t quantizer[FT_BLOCK], int32_t centre);
#endif

/* The best kind for this processor, or the one that FASTTAIL_SIMD names. */
const ft_pixels *ft_pixels_here(void);

#endif
