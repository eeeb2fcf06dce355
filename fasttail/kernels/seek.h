/* The seek index of a JPEG: where stretches of MCUs begin, so that decoding can start at any of them.
 *
 * It is an array of 64-bit words beside the file, whose bytes stay as they are. The first word tells
 * what the others are; each of these is a *point*: the bit at which a stretch begins, from the scan's
 * first byte on, and the DC predictors there.
 *
 *     word 0       bits 0..31 checksum; 32..47 MCUs to a stretch; 48..63 version
 *     word 1 + i   bits 0..27 bit of the scan; 28..39, 40..51, 52..63 predictors, signed
 *
 * Points stand in the order of the scan, as many in every row of MCUs: the first at its beginning, all
 * in its left half, where random crops begin; a row's last stretch goes to its end. The checksum is of
 * the points, the file's length and its last bytes: points that are damaged, or another file's, are
 * never followed. Files with a scan of 32 MiB or more, or predictors of more
 * than 12 bits, which no encoder makes from 8 bits a sample, have no index.
 */
#ifndef FASTTAIL_SEEK_H
#define FASTTAIL_SEEK_H

#include "jpeg.h"

typedef struct {
    const uint64_t *points;
    int32_t mcus;  /* to a stretch */
    int32_t a_row; /* stretches in a row of MCUs */
    int64_t count;
} ft_seek;

/* 1 if `words` are the index of this JPEG. */
int ft_seek_open(ft_seek *seek, const ft_jpeg *jpeg, const uint8_t *src, const uint64_t *words,
                 int64_t count);

/* The first word of an index of `count` points, a point to `mcus` MCUs. */
uint64_t ft_seek_head(const ft_jpeg *jpeg, const uint8_t *src, const uint64_t *points, int64_t count,
                      int32_t mcus);

/* The last point that is not behind a column of MCUs, and the first that is not before it: the next
 * row's, if need be. */
int64_t ft_seek_before(const ft_seek *seek, int32_t row, int32_t column);
int64_t ft_seek_from(const ft_seek *seek, int32_t row, int32_t column);

/* A point's column. */
int32_t ft_seek_column(const ft_seek *seek, int64_t point);

int64_t ft_seek_bit(const ft_seek *seek, int64_t point);
void ft_seek_predictors(const ft_seek *seek, int64_t point, int32_t dc[FT_COMPONENTS]);

#endif
