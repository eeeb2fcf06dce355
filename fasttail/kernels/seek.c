/* Making a seek index while a JPEG is checked, and opening one. See seek.h. */
#include "seek.h"

#include <stdlib.h>
#include <string.h>

#define VERSION 1ULL
#define PLACE_BITS 28
#define PREDICTOR_BITS 12
#define TAIL 256 /* bytes of the file's end that the checksum covers */

int ft_jpeg_decode(const uint8_t *src, int64_t size, uint8_t *out, int64_t capacity, int32_t *height,
                   int32_t *width, char message[FT_MESSAGE]);

int64_t ft_seek_before(const ft_seek *seek, int32_t row, int32_t column)
{
    return (int64_t)row * seek->a_row + ft_least(column / seek->mcus, seek->a_row - 1);
}

int64_t ft_seek_from(const ft_seek *seek, int32_t row, int32_t column)
{
    return (int64_t)row * seek->a_row + ft_least(ft_ceil_div(column, seek->mcus), seek->a_row);
}

int32_t ft_seek_column(const ft_seek *seek, int64_t point)
{
    return (int32_t)(point % seek->a_row) * seek->mcus;
}

int64_t ft_seek_bit(const ft_seek *seek, int64_t point)
{
    return (int64_t)(seek->points[point] & ((1ULL << PLACE_BITS) - 1));
}

void ft_seek_predictors(const ft_seek *seek, int64_t point, int32_t dc[FT_COMPONENTS])
{
    for (int c = 0; c < FT_COMPONENTS; c++) /* up to the top, and down again with the sign */
        dc[c] =
            (int32_t)((int64_t)(seek->points[point] << (64 - PLACE_BITS - PREDICTOR_BITS * (c + 1))) >>
                      (64 - PREDICTOR_BITS));
}

uint64_t ft_seek_head(const ft_jpeg *jpeg, const uint8_t *src, const uint64_t *points, int64_t count,
                      int32_t mcus)
{
    int64_t size = jpeg->end - src, tail = size < TAIL ? size : TAIL;
    uint32_t parts[3] = {ft_crc32((const uint8_t *)points, count * 8), ft_crc32(jpeg->end - tail, tail),
                         (uint32_t)size};
    return ft_crc32((const uint8_t *)parts, sizeof parts) | (uint64_t)mcus << 32 | VERSION << 48;
}

/* The MCUs of a row that have points: its left half, where boxes begin. A random crop's left edge is
 * seldom further to the right, and decoding goes on to the crop's right edge without a point. */
static int32_t pointed(int32_t mcus_wide) { return ft_ceil_div(mcus_wide, 2); }

static void stretches(ft_seek *seek, const ft_jpeg *jpeg, int32_t mcus)
{
    seek->mcus = mcus;
    seek->a_row = ft_ceil_div(pointed(jpeg->layout.mcus_wide), mcus);
    seek->count = (int64_t)seek->a_row * jpeg->layout.mcus_high;
}

int ft_seek_open(ft_seek *seek, const ft_jpeg *jpeg, const uint8_t *src, const uint64_t *words,
                 int64_t count)
{
    int32_t mcus = count ? (int32_t)(words[0] >> 32 & 0xFFFF) : 0;
    if (!mcus)
        return 0;
    stretches(seek, jpeg, mcus);
    seek->points = words + 1;
    return seek->count == count - 1 &&
           words[0] == ft_seek_head(jpeg, src, seek->points, seek->count, mcus);
}

/* There is to be a point to about `spacing` bytes, so that the index is a fixed share of the file, and
 * as many in every row. */
static int32_t stretch_of(const ft_jpeg *jpeg, int32_t spacing)
{
    int64_t a_row = (jpeg->end - jpeg->scan) / ((int64_t)spacing * jpeg->layout.mcus_high);
    int32_t wide = pointed(jpeg->layout.mcus_wide);
    return ft_ceil_div(wide, a_row < 1 ? 1 : a_row > wide ? wide : (int32_t)a_row);
}

/* 0 if the point does not fit. */
static int put(uint64_t *point, int64_t bit, const int32_t dc[FT_COMPONENTS])
{
    const int32_t half = 1 << (PREDICTOR_BITS - 1);
    *point = (uint64_t)bit;
    for (int c = 0; c < FT_COMPONENTS; c++) {
        if (dc[c] < -half || dc[c] >= half)
            return 0;
        *point |= (uint64_t)(dc[c] & (2 * half - 1)) << (PLACE_BITS + PREDICTOR_BITS * c);
    }
    return bit < 1LL << PLACE_BITS;
}

/* Goes through all of the scan; with `points`, puts them there. 0 if it is not as it should be.
 * `*fits`: whether all points do. */
static int walk(ft_cursor *cursor, const ft_jpeg *jpeg, const ft_seek *seek, uint64_t *points,
                int *fits)
{
    const int64_t mcus = (int64_t)jpeg->layout.mcus_wide * jpeg->layout.mcus_high;
    for (int64_t i = 0; i < seek->count; i++) {
        int32_t column = (int32_t)(i % seek->a_row) * seek->mcus, last = (i + 1) % seek->a_row == 0;
        if (cursor->mcu == cursor->restart_at && !ft_cursor_restart(cursor))
            return 0;
        if (points)
            *fits &= put(points + i, ft_cursor_place(cursor), cursor->dc);
        if (!ft_walk(cursor, last ? jpeg->layout.mcus_wide - column : seek->mcus))
            return 0;
    }
    /* The end marker, right where the data ends. */
    const uint8_t *marker = cursor->marker;
    return cursor->mcu == mcus && ft_cursor_at_end(cursor) && jpeg->end - marker >= 2 &&
           marker[0] == 0xFF && marker[1] == 0xD9;
}

/* 1 if this is a JPEG for us, all of which is as it should be; with `words`, makes its index if that
 * has room in `capacity` and all fits, and else sets `*count` to 0. */
static int check(const uint8_t *src, int64_t size, int32_t spacing, uint64_t *words, int64_t capacity,
                 int64_t *count, int32_t *height, int32_t *width)
{
    ft_jpeg jpeg;
    ft_cursor cursor;
    ft_scratch scratch = {0};
    ft_seek seek;
    const int32_t start[FT_COMPONENTS] = {0};
    *count = 0;
    if (!ft_header(&jpeg, src, size))
        return 0;
    *height = jpeg.layout.height;
    *width = jpeg.layout.width;
    stretches(&seek, &jpeg, words ? stretch_of(&jpeg, spacing) : jpeg.layout.mcus_wide);
    if (seek.count + 1 > capacity)
        words = NULL;
    ft_tables *tables = calloc(1, sizeof *tables);
    int fits = words != NULL;
    int good = tables && ft_tables_make(tables, &jpeg) &&
               ft_cursor_open(&cursor, &scratch, &jpeg, tables, 0, 0, start, 0, jpeg.end) &&
               walk(&cursor, &jpeg, &seek, words ? words + 1 : NULL, &fits);
    if (good && fits) {
        words[0] = ft_seek_head(&jpeg, src, words + 1, seek.count, seek.mcus);
        *count = seek.count + 1;
    }
    free(scratch.at);
    free(tables);
    return good;
}

int ft_jpeg_is_good(const uint8_t *src, int64_t size, int32_t *height, int32_t *width)
{
    int64_t count;
    return check(src, size, 0, NULL, 0, &count, height, width);
}

/* The most words that an index of a file of `size` bytes has. */
FT_API int64_t ft_seek_most(int64_t size, int32_t spacing) { return 1 + 8192 + size / spacing; }

/* Checks all of a JPEG, as `ft_jpeg_decode` does, and makes its seek index on the way, a point every
 * `spacing` bytes or so. How many of the `capacity` words it took: 0 if the JPEG is good but can't have
 * one (a progressive one, say). -1: no good JPEG, the reason in `message`. */
FT_API int64_t ft_seek_make(const uint8_t *src, int64_t size, int32_t spacing, uint64_t *words,
                            int64_t capacity, int32_t *height, int32_t *width, char message[FT_MESSAGE])
{
    int64_t count;
    if (check(src, size, spacing, words, capacity, &count, height, width))
        return count;
    return ft_jpeg_decode(src, size, NULL, 0, height, width, message) ? -1 : 0;
}
