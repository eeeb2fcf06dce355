/* One item, made by whoever can: a baseline JPEG and planes by our own decoder (native.c), everything else here, by
 * the rows of a box: from raw pixels, or from a JPEG of which no more is decoded than the box needs.
 *
 * libjpeg-turbo skips the rows above the box (entropy decoding only) and the columns beside it, and
 * stops after the last row. What comes out equals, bit for bit, the same box of a full decode (of a
 * scaled one, where the crop is far larger than the output):
 *   - skipping ends on a whole row of MCUs (libjpeg-turbo issue #915);
 *   - chroma is interpolated from its neighbours, so the region is one pixel larger on every side.
 *
 * Every warning is an error: what a damaged file decodes to is never used. And nothing of one image reaches the
 * next: a decompress object would keep its tables, so each image has a new one.
 */
#include "native.h"
#include "strict.h"

#include <stdlib.h>
#include <string.h>

#ifndef LIBJPEG_TURBO_VERSION_NUMBER
#error "libjpeg-turbo is needed (Debian and Ubuntu: libjpeg-dev), this is another libjpeg"
#elif LIBJPEG_TURBO_VERSION_NUMBER < 2000000
#error "libjpeg-turbo 2.0 or later is needed"
#endif

#define MIN_COLUMNS 8

/* Decoding is at 1/s where the crop is at least this many times s as large as the output. Then the same
 * image decoded at full size differs by less than 0.5/255 in the mean, with no bias and the same energy
 * of gradients; from a factor of 2, say, it would differ by 1 to 2 (docs/engines.md has the table). */
#define SHRINK_FROM 2.4
#define MAX_SHRUNK 4

struct ft_decoder {
    struct jpeg_decompress_struct jpeg;
    ft_strict strict;
    ft_resizer resizer;
    ft_scratch ring;
    ft_native *native;
};

/* Rows as they come out of the decoder, the last `kept` of them in a ring. */
typedef struct {
    ft_rows rows;
    struct jpeg_decompress_struct *jpeg;
    uint8_t *ring;
    size_t stride;
    int32_t kept, next; /* rows 0..next-1 of the region have been decoded */
    size_t skip_bytes;  /* before the region, in a decoded row */
} jpeg_rows;

typedef struct {
    ft_rows rows;
    const uint8_t *first;
    size_t stride;
} raw_rows;

/* --- one thread's state --------------------------------------------------------------------- */

ft_decoder *ft_decoder_new(void)
{
    ft_decoder *decoder = calloc(1, sizeof *decoder);
    if (decoder && !(decoder->native = calloc(1, sizeof *decoder->native))) {
        free(decoder);
        return NULL;
    }
    return decoder;
}

void ft_decoder_free(ft_decoder *decoder)
{
    if (!decoder)
        return;
    jpeg_destroy_decompress(&decoder->jpeg);
    ft_resizer_free(&decoder->resizer);
    ft_native_free(decoder->native);
    free(decoder->ring.at);
    free(decoder);
}

/* --- headers -------------------------------------------------------------------------------- */

/* Reads the header and sets how to decode. Jumps out if this is nothing for us. */
static void begin(ft_decoder *decoder, const uint8_t *src, int64_t size)
{
    struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
    ft_strict_open(&decoder->strict, jpeg, src, size);
    ft_strict_header(&decoder->strict, jpeg);
    if (jpeg->arith_code)
        ft_refuse(&decoder->strict, "arithmetic-coded JPEG");
    if (jpeg->data_precision != 8)
        ft_refuse(&decoder->strict, "JPEG with other than 8 bits a sample");
    if (jpeg->jpeg_color_space != JCS_YCbCr && jpeg->jpeg_color_space != JCS_GRAYSCALE &&
        jpeg->jpeg_color_space != JCS_RGB)
        ft_refuse(&decoder->strict, "JPEG that is neither RGB nor grey");
    jpeg->out_color_space = JCS_RGB;
    jpeg->dct_method = JDCT_ISLOW;
    jpeg->do_fancy_upsampling = TRUE;
}

/* --- regions -------------------------------------------------------------------------------- */

static const uint8_t *jpeg_row(ft_rows *base, int32_t r)
{
    jpeg_rows *rows = (jpeg_rows *)base;
    while (rows->next <= r) {
        JSAMPROW to = rows->ring + (size_t)(rows->next % rows->kept) * rows->stride;
        /* Memory as the source never suspends, so there is one row or an error. */
        jpeg_read_scanlines(rows->jpeg, &to, 1);
        rows->next++;
    }
    return rows->ring + (size_t)(r % rows->kept) * rows->stride + rows->skip_bytes;
}

static const uint8_t *raw_row(ft_rows *base, int32_t r)
{
    raw_rows *rows = (raw_rows *)base;
    return rows->first + (size_t)r * rows->stride;
}

/* Along one axis: what there is of a box that begins at `start`, decoded at 1/shrunk. Returns the first
 * decoded position. */
static int32_t clip(ft_span *span, int64_t start, int64_t box, int64_t image, int32_t shrunk)
{
    int64_t low = start > 0 ? start : 0, high = start + box < image ? start + box : image;
    *span = (ft_span){.shrunk = shrunk};
    if (high <= low)
        return 0;
    int64_t first = low / shrunk;
    span->before = (int32_t)(low - start);
    span->inside = (int32_t)(high - low);
    span->lead = (int32_t)(low % shrunk);
    span->decoded = (int32_t)((high + shrunk - 1) / shrunk - first);
    return (int32_t)first;
}

/* The same along both: the first row and column. */
static void clip_both(ft_rows *rows, const ft_item *item, int32_t shrunk, int32_t *top, int32_t *left)
{
    *top = clip(&rows->y, item->box[0], item->box[2], item->height, shrunk);
    *left = clip(&rows->x, item->box[1], item->box[3], item->width, shrunk);
}

/* The smallest size that an image is decoded at. Where chroma is shared by positions of one axis only, it is made
 * larger again at a quarter of the size, which shows; at other sampling, columns of chroma are interpolated from
 * memory that nothing was written to. */
static int32_t most_shrunk(const struct jpeg_decompress_struct *jpeg)
{
    int h = jpeg->max_h_samp_factor, v = jpeg->max_v_samp_factor;
    for (int c = 1; c < jpeg->num_components; c++)
        if (jpeg->comp_info[c].h_samp_factor * 2 < h || jpeg->comp_info[c].v_samp_factor * 2 < v)
            return 1;
    return h == v ? MAX_SHRUNK : 2;
}

static int32_t shrink(const ft_item *item, int32_t most)
{
    int32_t shrunk = 1;
    while (shrunk < most && item->box[2] >= 2 * shrunk * SHRINK_FROM * item->out_h &&
           item->box[3] >= 2 * shrunk * SHRINK_FROM * item->out_w)
        shrunk *= 2;
    return shrunk;
}

static int from_raw(ft_decoder *decoder, const ft_item *item)
{
    raw_rows rows = {.rows = {.row = raw_row}};
    int32_t top, left;
    if (item->size != 3LL * item->height * item->width) {
        snprintf(decoder->strict.message, FT_MESSAGE, "%lld bytes of pixels, not %d x %d x 3",
                 (long long)item->size, (int)item->height, (int)item->width);
        return -1;
    }
    clip_both(&rows.rows, item, 1, &top, &left);
    rows.stride = 3 * (size_t)item->width;
    rows.first = item->src + (size_t)top * rows.stride + 3 * (size_t)left;
    return ft_resize(&decoder->resizer, &rows.rows, item);
}

/* Skips rows, so that row `top` is the next: to the beginning of the row of MCUs that holds the row
 * before it, then row by row. */
static void skip_to(struct jpeg_decompress_struct *jpeg, int32_t top, int32_t shrunk, uint8_t *spare)
{
    int32_t mcu_rows = jpeg->max_v_samp_factor * DCTSIZE / shrunk;
    int32_t whole = top > 0 ? (top - 1) / mcu_rows * mcu_rows : 0;
    if (whole > 0)
        jpeg_skip_scanlines(jpeg, (JDIMENSION)whole);
    while ((int32_t)jpeg->output_scanline < top)
        jpeg_read_scanlines(jpeg, &spare, 1);
}

/* Restricts decoding to the columns from `left` on, and returns how many decoded ones lie before. */
static int32_t crop_columns(struct jpeg_decompress_struct *jpeg, int32_t left, int32_t width)
{
    int32_t whole = (int32_t)jpeg->output_width;
    int32_t x0 = left > 0 ? left - 1 : 0;
    int32_t x1 = left + width < whole ? left + width + 1 : whole;
    /* In a region of two chroma columns libjpeg-turbo interpolates otherwise than in the image. */
    if (x1 < x0 + MIN_COLUMNS)
        x1 = x0 + MIN_COLUMNS < whole ? x0 + MIN_COLUMNS : whole;
    if (x0 > x1 - MIN_COLUMNS)
        x0 = x1 > MIN_COLUMNS ? x1 - MIN_COLUMNS : 0;
    if (x1 - x0 == whole)
        return left;
    JDIMENSION first = (JDIMENSION)x0, columns = (JDIMENSION)(x1 - x0);
    jpeg_crop_scanline(jpeg, &first, &columns);
    return left - (int32_t)first;
}

static int from_jpeg(ft_decoder *decoder, const ft_item *item)
{
    struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
    jpeg_rows rows = {.rows = {.row = jpeg_row}, .jpeg = jpeg};
    int32_t top, left;

    if (setjmp(decoder->strict.jump)) {
        jpeg_destroy_decompress(jpeg);
        return -1;
    }
    begin(decoder, item->src, item->size);
    if ((int64_t)jpeg->image_height != item->height || (int64_t)jpeg->image_width != item->width) {
        char text[FT_MESSAGE];
        snprintf(text, sizeof text, "the JPEG has %ux%u pixels (width x height), the index says %dx%d",
                 jpeg->image_width, jpeg->image_height, (int)item->width, (int)item->height);
        ft_refuse(&decoder->strict, text);
    }
    int32_t shrunk = shrink(item, most_shrunk(jpeg));
    clip_both(&rows.rows, item, shrunk, &top, &left);
    if (rows.rows.y.decoded > 0 && rows.rows.x.decoded > 0) {
        jpeg->scale_num = 1;
        jpeg->scale_denom = (unsigned)shrunk;
        jpeg_start_decompress(jpeg);
        rows.skip_bytes = 3 * (size_t)crop_columns(jpeg, left, rows.rows.x.decoded);
        rows.stride = 3 * (size_t)jpeg->output_width;
        rows.kept = ft_rows_kept(item->box[2], item->out_h, shrunk);
        if (rows.kept > rows.rows.y.decoded)
            rows.kept = rows.rows.y.decoded;
        rows.ring = ft_grow(&decoder->ring, rows.stride * (size_t)rows.kept);
        if (!rows.ring)
            ft_refuse(&decoder->strict, "out of memory");
        skip_to(jpeg, top, shrunk, rows.ring);
    }
    if (ft_resize(&decoder->resizer, &rows.rows, item))
        ft_refuse(&decoder->strict, "out of memory");
    jpeg_destroy_decompress(jpeg);
    return 0;
}

int ft_decode(ft_decoder *decoder, const ft_item *item, char message[FT_MESSAGE])
{
    decoder->strict.message = message;
    if (item->check && ft_crc32(item->src, item->size) != item->crc32) {
        snprintf(message, FT_MESSAGE, "the checksum of its bytes differs from the index");
        return -1;
    }
    snprintf(message, FT_MESSAGE, "out of memory");
    if (item->mode == FT_RAW)
        return from_raw(decoder, item);
    ft_outcome outcome = FT_NOT_FOR_US;
    if (item->mode == FT_PLANES)
        outcome = ft_native_planes(decoder->native, item, message);
    else if (item->mode == FT_JPEG)
        outcome = ft_native_jpeg(decoder->native, item, message);
    return outcome == FT_NOT_FOR_US ? from_jpeg(decoder, item) : outcome;
}

/* --- single files --------------------------------------------------------------------------- */

/* Decodes a whole JPEG to pixels [height, width, 3], strictly. If `out` is NULL it is only checked: by
 * seek.c, or where that does not know, at an eighth of its size, for every bit still goes through
 * the entropy decoder, which is what notices damage; the inverse DCT and the colours
 * can't fail. Sets height and width first; if `capacity` bytes are too few for the pixels, that is all
 * it does (then returns 1). 0: decoded. -1: no good JPEG, the reason in `message`. */
FT_API int ft_jpeg_decode(const uint8_t *src, int64_t size, uint8_t *out, int64_t capacity,
                          int32_t *height, int32_t *width, char message[FT_MESSAGE])
{
    if (!out && ft_jpeg_is_good(src, size, height, width))
        return 0;
    ft_decoder *decoder = ft_decoder_new();
    if (!decoder) {
        snprintf(message, FT_MESSAGE, "out of memory");
        return -1;
    }
    decoder->strict.message = message;
    if (setjmp(decoder->strict.jump)) {
        ft_decoder_free(decoder);
        return -1;
    }
    struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
    begin(decoder, src, size);
    *height = (int32_t)jpeg->image_height;
    *width = (int32_t)jpeg->image_width;
    if (out && capacity < 3LL * *height * *width) {
        ft_decoder_free(decoder);
        return 1;
    }
    if (!out) {
        jpeg->scale_num = 1;
        jpeg->scale_denom = DCTSIZE;
        jpeg->out_color_space = jpeg->jpeg_color_space;
    }
    jpeg_start_decompress(jpeg);
    size_t stride = 3 * (size_t)jpeg->output_width;
    uint8_t *spare = ft_grow(&decoder->ring, stride);
    if (!spare)
        ft_refuse(&decoder->strict, "out of memory");
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW to = out ? out + jpeg->output_scanline * stride : spare;
        jpeg_read_scanlines(jpeg, &to, 1);
    }
    jpeg_finish_decompress(jpeg);
    ft_decoder_free(decoder);
    return 0;
}
