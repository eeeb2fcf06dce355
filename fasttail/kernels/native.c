/* One item from a JPEG: decodes the MCUs that its box needs and no more, two rows of them at a time.
 *
 *     with a seek index       each row from the last point before the box on, two rows in turn
 *     without                 everything before the box is walked over, in one go
 *
 * What comes of the coefficients is canvas.c's.
 */
#include "native.h"
#include "seek.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t natural[FT_BLOCK] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
};

/* Where coefficients of two rows of MCUs go: per component, rows of blocks from MCU `first` on. */
typedef struct {
    int32_t first, mcus;
    int16_t *blocks[FT_COMPONENTS];
} strip;

static void read_quantizers(ft_native *native, const ft_jpeg *jpeg)
{
    for (int c = 0; c < jpeg->layout.components; c++) {
        int which = jpeg->component[c].quantizer;
        const uint8_t *from = jpeg->quantizer[which];
        for (int k = 0; k < FT_BLOCK; k++)
            native->quantizer[c][natural[k]] =
                (int16_t)(jpeg->wide[which] ? from[2 * k] << 8 | from[2 * k + 1] : from[k]);
    }
}

/* One block more than there are: what takes two at a time may read it. */
static int prepare(ft_native *native, const ft_layout *layout, strip *made, int32_t first)
{
    size_t blocks[FT_COMPONENTS], all = 1;
    made->first = first;
    made->mcus = native->canvas.last_mcu - first;
    for (int c = 0; c < layout->components; c++) {
        blocks[c] = 2 * (size_t)made->mcus * (size_t)(layout->plane[c].h * layout->plane[c].v);
        all += blocks[c];
    }
    int16_t *at = ft_grow(&native->blocks, all * FT_BLOCK * sizeof(int16_t));
    if (!at)
        return -1;
    for (int c = 0; c < layout->components; c++) {
        made->blocks[c] = at;
        at += blocks[c] * FT_BLOCK;
    }
    memset(at, 0, FT_BLOCK * sizeof(int16_t));
    return 0;
}

static int16_t *block_row(const ft_layout *layout, const strip *to, int c, int32_t row)
{
    return to->blocks[c] + (size_t)row * (size_t)(to->mcus * layout->plane[c].h) * FT_BLOCK;
}

/* The cursor's next MCUs go to the upper or the lower (`which`) row of MCUs, from the first one there
 * on. */
static void aim(ft_cursor *cursor, const strip *to, int which)
{
    const ft_layout *layout = &cursor->jpeg->layout;
    ft_slot *slot = cursor->slots;
    for (int c = 0; c < layout->components; c++) {
        const ft_plane *plane = &layout->plane[c];
        for (int32_t v = 0; v < plane->v; v++)
            for (int32_t h = 0; h < plane->h; h++, slot++) {
                slot->block = block_row(layout, to, c, which * plane->v + v) + h * FT_BLOCK;
                slot->next = plane->h * FT_BLOCK;
            }
    }
}

static int transform(ft_native *native, const ft_layout *layout, const strip *from, int32_t mcu_row)
{
    ft_canvas *canvas = &native->canvas;
    int32_t mcu_rows = ft_least(canvas->last_mcu_row - mcu_row, 2);
    for (int c = 0; c < layout->components; c++) {
        const ft_plane *plane = &layout->plane[c];
        const ft_part *part = &canvas->part[c];
        int32_t left = part->left / 8, blocks = ft_ceil_div(part->right, 8) - left,
                rows = mcu_rows * plane->v;
        int32_t centre = c && layout->colour == FT_YCC ? 0 : 128;
        for (int32_t s = 0; 2 * s < rows; s++) {
            if (!ft_canvas_needs(canvas, c, mcu_row, s))
                continue;
            size_t skip = (size_t)(left - from->first * plane->h) * FT_BLOCK;
            const int16_t *upper = block_row(layout, from, c, 2 * s) + skip;
            const int16_t *lower =
                2 * s + 1 < rows ? block_row(layout, from, c, 2 * s + 1) + skip : upper;
            int16_t *tile = ft_canvas_tile(canvas, c, s) + (8 * left - part->first_column) * FT_TILE;
            canvas->pixels->idct(tile, upper, lower, blocks, native->quantizer[c], centre);
        }
    }
    return canvas->sink(canvas, mcu_row);
}

/* --- without a seek index ------------------------------------------------------------------- */

static ft_outcome go_through(ft_native *native, const ft_jpeg *jpeg)
{
    const ft_canvas *canvas = &native->canvas;
    const int32_t start[FT_COMPONENTS] = {0}, wide = jpeg->layout.mcus_wide,
                  last = canvas->last_mcu_row;
    ft_cursor cursor;
    strip to;
    if (prepare(native, &jpeg->layout, &to, canvas->first_mcu) ||
        !ft_cursor_open(&cursor, &native->data[0], jpeg, &native->tables, 0, 0, start, 0, jpeg->end))
        return FT_FAILED;
    if (!ft_walk(&cursor, (int64_t)canvas->first_mcu_row * wide))
        return FT_NOT_FOR_US;
    for (int32_t row = canvas->first_mcu_row; row < last; row += 2) {
        for (int which = 0; which < 2 && row + which < last; which++) {
            if (!ft_walk(&cursor, to.first))
                return FT_NOT_FOR_US;
            aim(&cursor, &to, which);
            if (!ft_blocks(&cursor, to.mcus) ||
                (row + which + 1 < last && !ft_walk(&cursor, wide - canvas->last_mcu)))
                return FT_NOT_FOR_US;
        }
        if (transform(native, &jpeg->layout, &to, row))
            return FT_FAILED;
    }
    return FT_DONE;
}

/* --- with a seek index ---------------------------------------------------------------------- */

static int open_at(ft_cursor *cursor, ft_scratch *scratch, ft_native *native, const ft_jpeg *jpeg,
                   const ft_seek *seek, int32_t row, const strip *to)
{
    int64_t point = ft_seek_before(seek, row, to->first);
    int64_t after = ft_seek_from(seek, row, to->first + to->mcus);
    int64_t bit = ft_seek_bit(seek, point), bytes = jpeg->end - jpeg->scan;
    int64_t limit = after < seek->count ? ft_seek_bit(seek, after) / 8 + 1 : bytes;
    int32_t dc[FT_COMPONENTS];
    ft_seek_predictors(seek, point, dc);
    return bit / 8 <= limit && limit <= bytes &&
           ft_cursor_open(cursor, scratch, jpeg, &native->tables, bit / 8, (int32_t)(bit % 8), dc,
                          (int64_t)row * jpeg->layout.mcus_wide + to->first, jpeg->scan + limit);
}

/* Whether a cursor that stands at a point stands as that says. */
static int fits(ft_cursor *cursor, const ft_seek *seek)
{
    const ft_layout *layout = &cursor->jpeg->layout;
    int32_t column = (int32_t)(cursor->mcu % layout->mcus_wide), dc[FT_COMPONENTS];
    int64_t point = ft_seek_from(seek, (int32_t)(cursor->mcu / layout->mcus_wide), column);
    if (point >= seek->count || column != ft_seek_column(seek, point))
        return 1;
    if (cursor->mcu == cursor->restart_at && !ft_cursor_restart(cursor))
        return 0;
    ft_seek_predictors(seek, point, dc);
    return ft_cursor_place(cursor) == ft_seek_bit(seek, point) &&
           !memcmp(dc, cursor->dc, sizeof dc[0] * (size_t)layout->components);
}

static ft_outcome jump(ft_native *native, const ft_jpeg *jpeg, const ft_seek *seek,
                       char message[FT_MESSAGE])
{
    const ft_canvas *canvas = &native->canvas;
    ft_cursor upper, lower;
    strip to;
    if (prepare(native, &jpeg->layout, &to,
                ft_seek_column(seek, ft_seek_before(seek, 0, canvas->first_mcu))))
        return FT_FAILED;
    for (int32_t row = canvas->first_mcu_row; row < canvas->last_mcu_row; row += 2) {
        int two = row + 1 < canvas->last_mcu_row;
        int good = open_at(&upper, &native->data[0], native, jpeg, seek, row, &to) &&
                   (!two || open_at(&lower, &native->data[1], native, jpeg, seek, row + 1, &to));
        if (good) {
            aim(&upper, &to, 0);
            if (two)
                aim(&lower, &to, 1);
            good = two ? ft_blocks_two(&upper, &lower, to.mcus) : ft_blocks(&upper, to.mcus);
        }
        if (!good || !fits(&upper, seek) || (two && !fits(&lower, seek))) {
            snprintf(message, FT_MESSAGE, "the seek index does not fit its bytes");
            return FT_FAILED;
        }
        if (transform(native, &jpeg->layout, &to, row))
            return FT_FAILED;
    }
    return FT_DONE;
}

ft_outcome ft_native_jpeg(ft_native *native, const ft_item *item, char message[FT_MESSAGE])
{
    ft_jpeg jpeg;
    ft_seek seek;
    if (!ft_header(&jpeg, item->src, item->size) || !ft_tables_make(&native->tables, &jpeg) ||
        jpeg.layout.height != item->height || jpeg.layout.width != item->width)
        return FT_NOT_FOR_US;
    if (item->seek_count && !ft_seek_open(&seek, &jpeg, item->src, item->seek, item->seek_count)) {
        snprintf(message, FT_MESSAGE, "the seek index does not fit its bytes");
        return FT_FAILED;
    }
    int begun = ft_canvas_begin(&native->canvas, &jpeg.layout, item);
    if (begun)
        return begun > 0 ? FT_DONE : FT_FAILED;
    read_quantizers(native, &jpeg);
    return item->seek_count ? jump(native, &jpeg, &seek, message) : go_through(native, &jpeg);
}

void ft_native_free(ft_native *native)
{
    if (!native)
        return;
    free(native->data[0].at);
    free(native->data[1].at);
    free(native->blocks.at);
    ft_canvas_free(&native->canvas);
    free(native);
}
