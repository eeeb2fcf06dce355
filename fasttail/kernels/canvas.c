/* From samples to the output image: tiles are summed across, the rows that come of it down, and only
 * what is then left, the output, gets its colours. So a JPEG's chroma is never made larger, and no
 * image of its own size in RGB is ever there.
 *
 *     tiles of two rows of MCUs -> colours inside of RGB -> across -> rows, the last ones kept -> down
 * -> colours
 *
 * Averaging in YCbCr is averaging in RGB, except where a colour lies outside of RGB (ringing of
 * saturated edges): there a decoder clamps each pixel before they are averaged. `bring_back` does that
 * to samples.
 */
#include "canvas.h"

#include <stdlib.h>
#include <string.h>

#define GROUP 8 /* tile columns that are looked at together */

/* --- what the box needs --------------------------------------------------------------------- */

/* libjpeg interpolates between samples at two positions each; across, from three samples on. */
static int smooth_x(const ft_plane *plane)
{
    return plane->factor_x == 2 && plane->factor_y <= 2 && plane->width > 2;
}

static int smooth_y(const ft_plane *plane)
{
    return plane->factor_y == 2 && (plane->factor_x == 1 || smooth_x(plane));
}

/* Samples low..high-1 that image positions from..to-1 are made of. */
static void samples(int32_t from, int32_t to, int32_t factor, int smooth, int32_t count, int32_t *low,
                    int32_t *high)
{
    *low = ft_most(from / factor - smooth, 0);
    *high = ft_least((to - 1) / factor + 1 + smooth, count);
}

/* Tiles of one component, its rows and weights. */
static int prepare(ft_canvas *canvas, int c)
{
    const ft_plane *plane = &canvas->layout->plane[c];
    const ft_item *item = canvas->item;
    ft_part *part = &canvas->part[c];
    part->first_column = canvas->first_mcu * 8 * plane->h;
    part->first_row = part->made = canvas->first_mcu_row * 8 * plane->v;
    part->columns = (canvas->last_mcu - canvas->first_mcu) * 8 * plane->h;

    const ft_plane *before = c ? plane - 1 : plane;
    ft_axis_plan x = {item->box[1], item->box[3],    item->width,        item->out_w, plane->factor_x,
                      plane->width, smooth_x(plane), part->first_column, part->left,  item->flip};
    ft_axis_plan y = {item->box[0],  item->box[2],    item->height,    item->out_h, plane->factor_y,
                      plane->height, smooth_y(plane), part->first_row, part->top,   0};
    int same_x = c && before->factor_x == plane->factor_x && smooth_x(before) == smooth_x(plane);
    int same_y = c && before->factor_y == plane->factor_y && smooth_y(before) == smooth_y(plane);
    if (same_x)
        part->across = part[-1].across;
    else if (ft_weights_make(&part->across, &canvas->across[c], &x))
        return -1;
    if (same_y)
        part->down = part[-1].down;
    else if (ft_weights_make(&part->down, &canvas->down[c], &y))
        return -1;

    /* Weights of 0 reach past the columns, and the inverse DCT may write a block past them. */
    part->tile_stride = (size_t)(part->columns + part->across.taps + 8) * FT_TILE;
    part->kept = ft_ceil_div(part->down.taps, FT_TILE) * FT_TILE + (plane->v + 2) * FT_TILE;
    part->tiles = ft_grow(&canvas->tiles[c], (size_t)plane->v * part->tile_stride * sizeof(int16_t));
    part->rows = ft_grow(&canvas->rows[c], (size_t)part->kept * canvas->stride * sizeof(int16_t));
    if (!part->tiles || !part->rows)
        return -1;
    size_t filled = (size_t)(ft_ceil_div(part->right, 8) * 8 - part->first_column) * FT_TILE;
    for (int s = 0; s < plane->v; s++)
        memset(part->tiles + (size_t)s * part->tile_stride + filled, 0,
               (part->tile_stride - filled) * sizeof(int16_t));
    return 0;
}

int ft_canvas_begin(ft_canvas *canvas, const ft_layout *layout, const ft_item *item)
{
    int64_t bottom = (int64_t)item->box[0] + item->box[2], right = (int64_t)item->box[1] + item->box[3];
    int32_t y0 = ft_most(item->box[0], 0), y1 = bottom < item->height ? (int32_t)bottom : item->height;
    int32_t x0 = ft_most(item->box[1], 0), x1 = right < item->width ? (int32_t)right : item->width;
    if (y0 >= y1 || x0 >= x1) {
        memset(item->out, 0, 3 * (size_t)item->out_h * (size_t)item->out_w);
        return 1;
    }
    if (!canvas->sink)
        canvas->sink = ft_canvas_pair;
    canvas->pixels = ft_pixels_here();
    canvas->layout = layout;
    canvas->item = item;
    canvas->next = canvas->changed = 0;
    canvas->stride = (size_t)ft_ceil_div(item->out_w, FT_COLUMNS) * FT_COLUMNS;
    canvas->first_mcu = canvas->first_mcu_row = INT32_MAX;
    canvas->last_mcu = canvas->last_mcu_row = 0;
    for (int c = 0; c < layout->components; c++) {
        const ft_plane *plane = &layout->plane[c];
        ft_part *part = &canvas->part[c];
        samples(x0, x1, plane->factor_x, smooth_x(plane), plane->width, &part->left, &part->right);
        samples(y0, y1, plane->factor_y, smooth_y(plane), plane->height, &part->top, &part->bottom);
        canvas->first_mcu = ft_least(canvas->first_mcu, part->left / (8 * plane->h));
        canvas->last_mcu = ft_most(canvas->last_mcu, ft_ceil_div(part->right, 8 * plane->h));
        canvas->first_mcu_row = ft_least(canvas->first_mcu_row, part->top / (8 * plane->v));
        canvas->last_mcu_row = ft_most(canvas->last_mcu_row, ft_ceil_div(part->bottom, 8 * plane->v));
    }
    for (int c = 0; c < layout->components; c++)
        if (prepare(canvas, c))
            return -1;
    int32_t taps = 0;
    for (int c = 0; c < layout->components; c++)
        taps = ft_most(taps, canvas->part[c].down.taps);
    int there = ft_grow(&canvas->lines, (FT_COMPONENTS + 1) * canvas->stride * sizeof(int16_t)) != NULL;
    return there && ft_grow(&canvas->taken, (size_t)taps * sizeof(int16_t *)) ? 0 : -1;
}

/* --- tiles ---------------------------------------------------------------------------------- */

static int32_t first_row(const ft_canvas *canvas, int32_t c, int32_t mcu_row, int32_t strip)
{
    return mcu_row * 8 * canvas->layout->plane[c].v + strip * FT_TILE;
}

int ft_canvas_needs(const ft_canvas *canvas, int32_t component, int32_t mcu_row, int32_t strip)
{
    const ft_part *part = &canvas->part[component];
    int32_t row = first_row(canvas, component, mcu_row, strip);
    return row < part->bottom && row + FT_TILE > part->top;
}

int16_t *ft_canvas_tile(const ft_canvas *canvas, int32_t component, int32_t strip)
{
    const ft_part *part = &canvas->part[component];
    return part->tiles + (size_t)strip * part->tile_stride;
}

/* --- colours inside of RGB ------------------------------------------------------------------ */

/* Whether brightness has all of the image's positions, and both colours the same ones: elsewhere
 * nothing is brought back. */
static int can_bring_back(const ft_layout *layout)
{
    const ft_plane *plane = layout->plane;
    return layout->colour == FT_YCC && plane[0].factor_x == 1 && plane[0].factor_y == 1 &&
           plane[1].factor_x == plane[2].factor_x && plane[1].factor_y == plane[2].factor_y &&
           GROUP % plane[1].factor_x == 0 && plane[1].factor_y <= 2;
}

/* What a tile has beyond the image, or beyond the last row of MCUs that is needed, is made like what it
 * has last: what a file has there must not show in what is brought back beside it. */
static void extend(const ft_canvas *canvas, int c, int32_t mcu_row, int32_t strip)
{
    const ft_plane *plane = &canvas->layout->plane[c];
    const ft_part *part = &canvas->part[c];
    int16_t *tile = ft_canvas_tile(canvas, c, strip);
    int32_t columns = plane->width - part->first_column,
            wanted = ft_ceil_div(part->right, 8) * 8 - part->first_column;
    int32_t end = ft_least(ft_least(mcu_row + 2, canvas->last_mcu_row) * 8 * plane->v, plane->height);
    int32_t rows = end - first_row(canvas, c, mcu_row, strip);
    for (int32_t x = columns; x < wanted; x++)
        memcpy(tile + x * FT_TILE, tile + (columns - 1) * FT_TILE, FT_TILE * sizeof(int16_t));
    for (int32_t x = part->left / 8 * 8 - part->first_column; rows < FT_TILE && x < wanted; x++)
        for (int32_t r = rows; r < FT_TILE; r++)
            tile[x * FT_TILE + r] = tile[x * FT_TILE + rows - 1];
}

/* Shared colours as large as brightness: GROUP columns from column x of a strip on. Of the tile there
 * are so many columns; at its edges its own samples stand for those that are not in it. */
static void spread(const ft_pixels *pixels, int16_t *to, const int16_t *tile, const ft_plane *plane,
                   int32_t x, int32_t half, int32_t columns)
{
    const int smooth = smooth_y(plane);
    for (int32_t i = x; i < x + GROUP; i++, to += FT_TILE) {
        int32_t near = ft_least(i / plane->factor_x, columns - 1), next = near;
        if (smooth_x(plane))
            next = i & 1 ? ft_least(near + 1, columns - 1) : ft_most(near - 1, 0);
        pixels->spread(to, tile + near * FT_TILE, tile + next * FT_TILE, half, plane->factor_y, smooth);
    }
}

/* Changes of shared colours are small, rare and of the image's own size: they have tiles and rows of
 * their own. */
static int begin_changes(ft_canvas *canvas)
{
    const ft_part *part = &canvas->part[0];
    size_t tiles = part->tile_stride * sizeof(int16_t),
           rows = (size_t)part->kept * canvas->stride * sizeof(int16_t);
    for (int i = 0; i < 2; i++) {
        if (!ft_grow(&canvas->change_tiles[i], tiles) || !ft_grow(&canvas->change_rows[i], rows))
            return -1;
        memset(canvas->change_rows[i].at, 0, rows); /* up to here nothing was changed */
    }
    canvas->changed = 1;
    return 0;
}

/* A strip of brightness. 1 if shared colours are changed, -1 if memory runs out. */
static int bring_back(ft_canvas *canvas, int32_t strip)
{
    const ft_plane *plane = canvas->layout->plane, *shared = plane + 1;
    const ft_part *part = &canvas->part[0];
    const ft_pixels *pixels = canvas->pixels;
    int32_t columns = canvas->part[1].right - canvas->part[1].first_column;
    int alone = shared->factor_x == 1 && shared->factor_y == 1, changed = 0;
    /* Two strips of brightness may share one of colours. */
    int32_t half = shared->factor_y == 2 ? strip % 2 * (FT_TILE / 2) : 0, s = strip / shared->factor_y;
    int16_t *y = ft_canvas_tile(canvas, 0, strip), *cb = ft_canvas_tile(canvas, 1, s),
            *cr = ft_canvas_tile(canvas, 2, s);
    /* Whole blocks, as they were made. */
    int32_t from = part->left / 8 * 8 - part->first_column,
            to = ft_ceil_div(part->right, 8) * 8 - part->first_column;
    for (int32_t x = from; x < to; x += GROUP) {
        int32_t at = x / shared->factor_x * FT_TILE;
        if (!pixels->outside(y + x * FT_TILE, cb + at + half, cr + at + half, GROUP, shared->factor_x,
                             shared->factor_y))
            continue;
        if (alone) {
            pixels->bring_back(y + x * FT_TILE, cb + at, cr + at, cb + at, cr + at, GROUP);
            continue;
        }
        if (!canvas->changed && begin_changes(canvas))
            return -1;
        int16_t *change_cb = canvas->change_tiles[0].at, *change_cr = canvas->change_tiles[1].at,
                b[GROUP * FT_TILE], d[GROUP * FT_TILE];
        if (!changed) {
            memset(change_cb, 0, part->tile_stride * sizeof(int16_t));
            memset(change_cr, 0, part->tile_stride * sizeof(int16_t));
            changed = 1;
        }
        spread(pixels, b, cb, shared, x, half, columns);
        spread(pixels, d, cr, shared, x, half, columns);
        pixels->bring_back(y + x * FT_TILE, b, d, change_cb + x * FT_TILE, change_cr + x * FT_TILE,
                           GROUP);
    }
    return changed;
}

/* --- two rows of MCUs ----------------------------------------------------------------------- */

static void go_across(ft_canvas *canvas, int32_t c, int32_t mcu_row, int32_t strip, int16_t *rows,
                      const int16_t *tile)
{
    ft_part *part = &canvas->part[c];
    int32_t row = (first_row(canvas, c, mcu_row, strip) - part->first_row) % part->kept;
    canvas->pixels->across(rows + (size_t)row * canvas->stride, canvas->stride, tile,
                           part->across.first, part->across.weights, part->across.taps,
                           (int32_t)canvas->stride);
}

/* What is outside of RGB in a strip of brightness; and if shared colours change anywhere, how they do
 * here. */
static int change(ft_canvas *canvas, int32_t mcu_row, int32_t strip)
{
    int changed = bring_back(canvas, strip);
    for (int i = 0; i < 2 && canvas->changed && changed >= 0; i++) {
        if (!changed)
            memset(canvas->change_tiles[i].at, 0, canvas->part[0].tile_stride * sizeof(int16_t));
        go_across(canvas, 0, mcu_row, strip, canvas->change_rows[i].at, canvas->change_tiles[i].at);
    }
    return changed;
}

/* Whether all rows for the next output row are there. */
static int ready(const ft_canvas *canvas)
{
    for (int c = 0; c < canvas->layout->components; c++) {
        const ft_part *part = &canvas->part[c];
        int32_t end = part->first_row + part->down.first[canvas->next] + part->down.taps;
        if (ft_least(end, part->bottom) > part->made)
            return 0;
    }
    return 1;
}

/* A component's next row. */
static void go_down(const ft_canvas *canvas, int c, int16_t *line, const int16_t *rows)
{
    const ft_part *part = &canvas->part[c];
    const int16_t **taken = (const int16_t **)canvas->taken.at;
    int32_t first = part->down.first[canvas->next], last = part->bottom - 1 - part->first_row,
            taps = part->down.taps;
    int32_t at = ft_least(first, last) % part->kept;
    for (int32_t k = 0; k < taps; k++) {
        taken[k] = rows + (size_t)at * canvas->stride;
        if (first + k < last)
            at = at + 1 < part->kept ? at + 1 : 0;
    }
    canvas->pixels->down(line, taken, part->down.weights + (size_t)canvas->next * (size_t)taps, taps,
                         (int32_t)canvas->stride);
}

static void make_row(ft_canvas *canvas)
{
    const ft_item *item = canvas->item;
    const int16_t *lines[FT_COMPONENTS];
    int16_t *line = canvas->lines.at, *change = line + FT_COMPONENTS * canvas->stride;
    for (int c = 0; c < canvas->layout->components; c++, line += canvas->stride) {
        go_down(canvas, c, line, canvas->part[c].rows);
        lines[c] = line;
        if (c && canvas->changed) {
            go_down(canvas, 0, change, canvas->change_rows[c - 1].at);
            for (size_t x = 0; x < canvas->stride; x++)
                line[x] = (int16_t)(line[x] + change[x]);
        }
    }
    uint8_t *out = item->out + (size_t)canvas->next * 3 * (size_t)item->out_w, spare[3 * FT_COLUMNS];
    int32_t whole = item->out_w / FT_COLUMNS * FT_COLUMNS;
    canvas->pixels->colour(out, lines, canvas->layout->colour, whole);
    if (whole < item->out_w) {
        for (int c = 0; c < canvas->layout->components; c++)
            lines[c] += whole;
        canvas->pixels->colour(spare, lines, canvas->layout->colour, FT_COLUMNS);
        memcpy(out + 3 * (size_t)whole, spare, 3 * (size_t)(item->out_w - whole));
    }
    canvas->next++;
}

int ft_canvas_pair(ft_canvas *canvas, int32_t mcu_row)
{
    const ft_layout *layout = canvas->layout;
    int32_t mcu_rows = ft_least(canvas->last_mcu_row - mcu_row, 2);
    if (can_bring_back(layout)) {
        for (int c = 0; c < layout->components; c++)
            for (int32_t s = 0; s < ft_ceil_div(mcu_rows * layout->plane[c].v, 2); s++)
                if (ft_canvas_needs(canvas, c, mcu_row, s))
                    extend(canvas, c, mcu_row, s);
        for (int32_t s = 0; s < ft_ceil_div(mcu_rows * layout->plane[0].v, 2); s++)
            if (ft_canvas_needs(canvas, 0, mcu_row, s) && change(canvas, mcu_row, s) < 0)
                return -1;
    }
    for (int c = 0; c < layout->components; c++) {
        ft_part *part = &canvas->part[c];
        int32_t v = layout->plane[c].v;
        for (int32_t s = 0; s < ft_ceil_div(mcu_rows * v, 2); s++)
            if (ft_canvas_needs(canvas, c, mcu_row, s))
                go_across(canvas, c, mcu_row, s, part->rows, ft_canvas_tile(canvas, c, s));
        part->made = (mcu_row + mcu_rows) * 8 * v;
    }
    while (canvas->next < canvas->item->out_h && ready(canvas))
        make_row(canvas);
    return 0;
}

void ft_canvas_free(ft_canvas *canvas)
{
    for (int c = 0; c < FT_COMPONENTS; c++) {
        free(canvas->tiles[c].at);
        free(canvas->rows[c].at);
        free(canvas->across[c].at);
        free(canvas->down[c].at);
    }
    for (int i = 0; i < 2; i++) {
        free(canvas->change_tiles[i].at);
        free(canvas->change_rows[i].at);
    }
    free(canvas->lines.at);
    free(canvas->taken.at);
}
