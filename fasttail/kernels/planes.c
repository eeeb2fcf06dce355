/* Samples that are kept decoded: the planes of a JPEG at their own sampling, one byte a sample, exactly
 * as the inverse DCT gives them. From there on they take the way that the JPEG's own samples take, so
 * whether an image is kept decoded shows in nothing but the time.
 *
 *     bytes 0..3   "FTP1"
 *     byte 4       components, byte 5 colour: 0 grey, 1 YCbCr, 2 RGB
 *     bytes 6..11  h and v of each component
 *     bytes 12..15 height and width, two bytes each, the lower first
 *     from 16 on   the planes, row after row
 */
#include "native.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER 16
static const char magic[4] = "FTP1";

static int64_t bytes_of(const ft_layout *layout)
{
    int64_t bytes = HEADER;
    for (int c = 0; c < layout->components; c++)
        bytes += (int64_t)layout->plane[c].height * layout->plane[c].width;
    return bytes;
}

static void write_header(uint8_t *out, const ft_layout *layout)
{
    memset(out, 0, HEADER);
    memcpy(out, magic, sizeof magic);
    out[4] = (uint8_t)layout->components;
    out[5] = (uint8_t)layout->colour;
    for (int c = 0; c < layout->components; c++) {
        out[6 + 2 * c] = (uint8_t)layout->plane[c].h;
        out[7 + 2 * c] = (uint8_t)layout->plane[c].v;
    }
    out[12] = (uint8_t)layout->height, out[13] = (uint8_t)(layout->height >> 8);
    out[14] = (uint8_t)layout->width, out[15] = (uint8_t)(layout->width >> 8);
}

/* 1 if these are planes, all of them. */
static int read_header(ft_layout *layout, const uint8_t *src, int64_t size)
{
    memset(layout, 0, sizeof *layout);
    if (size < HEADER || memcmp(src, magic, sizeof magic) || src[5] > FT_RGB || src[4] > FT_COMPONENTS)
        return 0;
    layout->components = src[4];
    layout->colour = (ft_colour)src[5];
    for (int c = 0; c < layout->components; c++) {
        layout->plane[c].h = src[6 + 2 * c];
        layout->plane[c].v = src[7 + 2 * c];
    }
    layout->height = src[12] | src[13] << 8;
    layout->width = src[14] | src[15] << 8;
    return ft_layout_complete(layout) && (layout->components == 1) == (layout->colour == FT_GREY) &&
           bytes_of(layout) == size;
}

/* --- making them ---------------------------------------------------------------------------- */

/* Samples of two rows of MCUs go to the planes, which lie where the item's output is said to be. */
static int keep(ft_canvas *canvas, int32_t mcu_row)
{
    const ft_layout *layout = canvas->layout;
    uint8_t *out = canvas->item->out;
    for (int c = 0; c < layout->components; c++) {
        const ft_plane *plane = &layout->plane[c];
        int32_t centre = c && layout->colour == FT_YCC ? 128 : 0, top = mcu_row * 8 * plane->v;
        int32_t rows = ft_least(16 * plane->v, plane->height - top);
        for (int32_t r = 0; r < rows; r++) {
            const int16_t *tile = ft_canvas_tile(canvas, c, r / FT_TILE) + r % FT_TILE;
            uint8_t *to = out + (int64_t)(top + r) * plane->width;
            for (int32_t x = 0; x < plane->width; x++)
                to[x] = (uint8_t)(tile[x * FT_TILE] / FT_LEVEL + centre);
        }
        out += (int64_t)plane->height * plane->width;
    }
    return 0;
}

/* Decodes a whole JPEG to planes, header and all. How many bytes these are, and if `capacity` is enough
 * for them, they are in `out`. 0: a JPEG of a kind that has none. -1: no good JPEG, the reason in
 * `message`. */
FT_API int64_t ft_planes(const uint8_t *src, int64_t size, uint8_t *out, int64_t capacity,
                         char message[FT_MESSAGE])
{
    ft_jpeg jpeg;
    if (!ft_header(&jpeg, src, size))
        return 0;
    int64_t bytes = bytes_of(&jpeg.layout);
    if (bytes > capacity)
        return bytes;
    int32_t height = jpeg.layout.height, width = jpeg.layout.width;
    /* Everything is needed, and nothing of an image is made. */
    ft_item item = {.src = src,
                    .size = size,
                    .height = height,
                    .width = width,
                    .box = {0, 0, height, width},
                    .out_h = 1,
                    .out_w = 1,
                    .out = out + HEADER};
    ft_native *native = calloc(1, sizeof *native);
    if (!native) {
        snprintf(message, FT_MESSAGE, "out of memory");
        return -1;
    }
    native->canvas.sink = keep;
    ft_outcome outcome = ft_native_jpeg(native, &item, message);
    ft_native_free(native);
    if (outcome == FT_DONE)
        write_header(out, &jpeg.layout);
    if (outcome == FT_FAILED)
        snprintf(message, FT_MESSAGE, "out of memory");
    return outcome == FT_DONE ? bytes : outcome == FT_FAILED ? -1 : 0;
}

/* --- using them ----------------------------------------------------------------------------- */

/* Columns from..to-1 of 16 rows of a plane; rows past its end are like its last. */
static void load(const ft_canvas *canvas, int16_t *tile, const ft_plane *plane, const uint8_t *samples,
                 int32_t top, int32_t from, int32_t to, int32_t centre)
{
    const uint8_t *rows[FT_TILE];
    uint8_t last[FT_TILE][8] = {{0}};
    int32_t whole = (to - from) / 8 * 8;
    for (int r = 0; r < FT_TILE; r++) {
        rows[r] = samples + (int64_t)ft_least(top + r, plane->height - 1) * plane->width + from;
        memcpy(last[r], rows[r] + whole, (size_t)(to - from - whole));
    }
    canvas->pixels->samples(tile, rows, whole, centre);
    if (whole == to - from)
        return;
    for (int r = 0; r < FT_TILE; r++)
        rows[r] = last[r];
    canvas->pixels->samples(tile + whole * FT_TILE, rows, 8, centre);
}

ft_outcome ft_native_planes(ft_native *native, const ft_item *item, char message[FT_MESSAGE])
{
    ft_layout layout;
    ft_canvas *canvas = &native->canvas;
    if (!read_header(&layout, item->src, item->size) || layout.height != item->height ||
        layout.width != item->width) {
        snprintf(message, FT_MESSAGE, "no planes of %d x %d pixels", (int)item->height,
                 (int)item->width);
        return FT_FAILED;
    }
    int begun = ft_canvas_begin(canvas, &layout, item);
    if (begun)
        return begun > 0 ? FT_DONE : FT_FAILED;
    for (int32_t row = canvas->first_mcu_row; row < canvas->last_mcu_row; row += 2) {
        const uint8_t *samples = item->src + HEADER;
        for (int c = 0; c < layout.components; c++) {
            const ft_plane *plane = &layout.plane[c];
            const ft_part *part = &canvas->part[c];
            int32_t from = part->left / 8 * 8,
                    to = ft_least(ft_ceil_div(part->right, 8) * 8, plane->width);
            for (int32_t s = 0; s < plane->v; s++)
                if (ft_canvas_needs(canvas, c, row, s))
                    load(canvas, ft_canvas_tile(canvas, c, s) + (from - part->first_column) * FT_TILE,
                         plane, samples, row * 8 * plane->v + s * FT_TILE, from, to,
                         c && layout.colour == FT_YCC ? 128 : 0);
            samples += (int64_t)plane->height * plane->width;
        }
        if (canvas->sink(canvas, row))
            return FT_FAILED;
    }
    return FT_DONE;
}
