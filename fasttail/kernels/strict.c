#include "strict.h"

/* A progressive file may have any number of scans over all its pixels; real ones have about ten. */
#define MAX_SCANS 200

void ft_refuse(ft_strict *strict, const char *why)
{
    snprintf(strict->message, FT_MESSAGE, "%s", why);
    longjmp(strict->jump, 1);
}

static void fail(j_common_ptr jpeg)
{
    char text[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, text);
    ft_refuse(jpeg->client_data, text);
}

static void warn(j_common_ptr jpeg, int level)
{
    if (level < 0)
        fail(jpeg);
}

static void on_progress(j_common_ptr jpeg)
{
    if (((j_decompress_ptr)jpeg)->input_scan_number > MAX_SCANS) {
        char text[FT_MESSAGE];
        snprintf(text, sizeof text, "more than %d scans", MAX_SCANS);
        ft_refuse(jpeg->client_data, text);
    }
}

void ft_strict_open(ft_strict *strict, struct jpeg_decompress_struct *jpeg, const uint8_t *src, int64_t size)
{
    jpeg->err = jpeg_std_error(&strict->errors);
    strict->errors.error_exit = fail;
    strict->errors.emit_message = warn;
    jpeg->client_data = strict;
    jpeg_create_decompress(jpeg);
    strict->progress.progress_monitor = on_progress;
    jpeg->progress = &strict->progress;
    if (size <= 0)
        ft_refuse(strict, "no bytes");
    jpeg_mem_src(jpeg, (unsigned char *)src, (unsigned long)size);
}

void ft_strict_header(ft_strict *strict, struct jpeg_decompress_struct *jpeg)
{
    jpeg_read_header(jpeg, TRUE);
    if ((int64_t)jpeg->image_height * jpeg->image_width > FT_MAX_PIXELS)
        ft_refuse(strict, "more pixels than the limit of 178956970");
}
