/* A JPEG of any kind that libjpeg reads -> a baseline JPEG of the same coefficients, so of the same
 * pixels, which our own decoder takes: a progressive file's scans each go over the whole image, and a
 * crop needs all of them. Markers stay (EXIF, colour profile); Huffman tables are made for the image.
 */
#include "strict.h"

#include <stdlib.h>
#include <string.h>

#define MARKER_BYTES 0xFFFF

typedef struct {
    struct jpeg_decompress_struct from;
    struct jpeg_compress_struct to;
    ft_strict strict;
    unsigned char *made; /* by libjpeg */
    unsigned long bytes;
} transcoder;

/* All markers but those that libjpeg writes by itself. */
static void copy_markers(transcoder *t)
{
    for (jpeg_saved_marker_ptr m = t->from.marker_list; m; m = m->next) {
        int jfif = m->marker == JPEG_APP0 && m->data_length >= 5 && !memcmp(m->data, "JFIF", 5);
        int adobe = m->marker == JPEG_APP0 + 14 && m->data_length >= 5 && !memcmp(m->data, "Adobe", 5);
        if (!(jfif && t->to.write_JFIF_header) && !(adobe && t->to.write_Adobe_marker))
            jpeg_write_marker(&t->to, m->marker, m->data, m->data_length);
    }
}

/* Whether the scans give every bit of every coefficient. Where some are missing (a file may do without the
 * last), libjpeg guesses the coefficients from those of the blocks around, which no baseline file says. */
static int is_complete(const struct jpeg_decompress_struct *from)
{
    for (int c = 0; from->coef_bits && c < from->num_components; c++)
        for (int k = 0; k < DCTSIZE2; k++)
            if (from->coef_bits[c][k] != 0)
                return 0;
    return 1;
}

static void transcode(transcoder *t, const uint8_t *src, int64_t size)
{
    struct jpeg_decompress_struct *from = &t->from;
    ft_strict_open(&t->strict, from, src, size);
    t->to.err = from->err;
    t->to.client_data = &t->strict;
    jpeg_create_compress(&t->to);
    jpeg_save_markers(from, JPEG_COM, MARKER_BYTES);
    for (int n = 0; n < 16; n++)
        jpeg_save_markers(from, JPEG_APP0 + n, MARKER_BYTES);
    ft_strict_header(&t->strict, from);
    jvirt_barray_ptr *coefficients = jpeg_read_coefficients(from);
    if (!is_complete(from))
        return;
    jpeg_copy_critical_parameters(from, &t->to);
    t->to.optimize_coding = TRUE;
    jpeg_mem_dest(&t->to, &t->made, &t->bytes);
    jpeg_write_coefficients(&t->to, coefficients);
    copy_markers(t);
    jpeg_finish_compress(&t->to);
    jpeg_finish_decompress(from);
}

/* Writes the baseline JPEG to `out` if `capacity` is enough for it. How many bytes it has; 0: a good JPEG
 * that has none of the same pixels; -1: no good JPEG, the reason in `message`. */
FT_API int64_t ft_jpeg_to_baseline(const uint8_t *src, int64_t size, uint8_t *out, int64_t capacity,
                                   char message[FT_MESSAGE])
{
    transcoder *t = calloc(1, sizeof *t);
    snprintf(message, FT_MESSAGE, "out of memory");
    if (!t)
        return -1;
    t->strict.message = message;
    int64_t bytes = -1;
    if (!setjmp(t->strict.jump)) {
        transcode(t, src, size);
        bytes = (int64_t)t->bytes;
        if (bytes <= capacity)
            memcpy(out, t->made, (size_t)bytes);
    }
    jpeg_destroy_compress(&t->to);
    jpeg_destroy_decompress(&t->from);
    free(t->made);
    free(t);
    return bytes;
}
