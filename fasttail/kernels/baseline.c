/* A JPEG of any kind that libjpeg reads -> a baseline JPEG of the same coefficients, so of the same
 * pixels, which our own decoder takes: a progressive file's scans each go over the whole image, and a
 * crop needs all of them. Markers stay (EXIF, colour profile); Huffman tables are made for the image.
 */
#include "fasttail.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#define MAX_SCANS 200 /* as in jpeg_roi.c */
#define MARKER_BYTES 0xFFFF

typedef struct {
    struct jpeg_decompress_struct from;
    struct jpeg_compress_struct to;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    char *message;
    unsigned char *made; /* by libjpeg */
    unsigned long bytes;
} transcoder;

static void fail(j_common_ptr jpeg)
{
    transcoder *t = jpeg->client_data;
    char text[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, text);
    snprintf(t->message, FT_MESSAGE, "%s", text);
    longjmp(t->jump, 1);
}

static void warn(j_common_ptr jpeg, int level)
{
    if (level < 0)
        fail(jpeg);
}

static void on_progress(j_common_ptr jpeg)
{
    transcoder *t = jpeg->client_data;
    if (jpeg->is_decompressor && ((j_decompress_ptr)jpeg)->input_scan_number > MAX_SCANS) {
        snprintf(t->message, FT_MESSAGE, "more than %d scans", MAX_SCANS);
        longjmp(t->jump, 1);
    }
}

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

static void transcode(transcoder *t, const uint8_t *src, int64_t size)
{
    struct jpeg_decompress_struct *from = &t->from;
    from->err = t->to.err = jpeg_std_error(&t->errors);
    t->errors.error_exit = fail;
    t->errors.emit_message = warn;
    t->progress.progress_monitor = on_progress;
    from->client_data = t->to.client_data = t;
    jpeg_create_decompress(from);
    jpeg_create_compress(&t->to);
    from->progress = &t->progress;
    jpeg_mem_src(from, (unsigned char *)src, (unsigned long)size);
    jpeg_save_markers(from, JPEG_COM, MARKER_BYTES);
    for (int n = 0; n < 16; n++)
        jpeg_save_markers(from, JPEG_APP0 + n, MARKER_BYTES);
    jpeg_read_header(from, TRUE);
    if ((int64_t)from->image_height * from->image_width > FT_MAX_PIXELS) {
        snprintf(t->message, FT_MESSAGE, "more pixels than the limit of 178956970");
        longjmp(t->jump, 1);
    }
    jvirt_barray_ptr *coefficients = jpeg_read_coefficients(from);
    jpeg_copy_critical_parameters(from, &t->to);
    t->to.optimize_coding = TRUE;
    jpeg_mem_dest(&t->to, &t->made, &t->bytes);
    jpeg_write_coefficients(&t->to, coefficients);
    copy_markers(t);
    jpeg_finish_compress(&t->to);
    jpeg_finish_decompress(from);
}

/* Writes the baseline JPEG to `out` if `capacity` is enough for it. How many bytes it has; -1: no good
 * JPEG, the reason in `message`. */
FT_API int64_t ft_jpeg_to_baseline(const uint8_t *src, int64_t size, uint8_t *out, int64_t capacity,
                                   char message[FT_MESSAGE])
{
    transcoder *t = calloc(1, sizeof *t);
    snprintf(message, FT_MESSAGE, size > 0 ? "out of memory" : "no bytes");
    if (!t || size <= 0) {
        free(t);
        return -1;
    }
    t->message = message;
    int64_t bytes = -1;
    if (!setjmp(t->jump)) {
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
