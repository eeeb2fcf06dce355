/* libjpeg-turbo with every warning an error, and bounds on what a file may ask of it. */
#ifndef FT_STRICT_H
#define FT_STRICT_H

#include "fasttail.h"

#include <setjmp.h>
#include <stdio.h>

#include <jpeglib.h>

/* `jump` is set by setjmp before anything else; who ends there finds the reason in `message`. */
typedef struct {
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    char *message;
} ft_strict;

/* Ends with this reason. */
_Noreturn void ft_refuse(ft_strict *strict, const char *why);

/* Creates a decompress object over these bytes. */
void ft_strict_open(ft_strict *strict, struct jpeg_decompress_struct *jpeg, const uint8_t *src, int64_t size);

/* Reads its header. Ends if it has more than FT_MAX_PIXELS. */
void ft_strict_header(ft_strict *strict, struct jpeg_decompress_struct *jpeg);

#endif
