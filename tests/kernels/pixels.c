/* Checksums of what our decoder makes of JPEG files, to be compared between processors: needs no libjpeg. */
#include <stdio.h>
#include <stdlib.h>

#include "native.h"
#include "seek.h"

const char *ft_simd(void);
int64_t ft_seek_make(const uint8_t *src, int64_t size, int32_t spacing, uint64_t *words,
                     int64_t capacity, int32_t *height, int32_t *width, char message[FT_MESSAGE]);
int64_t ft_planes(const uint8_t *src, int64_t size, uint8_t *out, int64_t capacity,
                  char message[FT_MESSAGE]);

/* What libjpeg would be asked for. */
int ft_jpeg_decode(const uint8_t *src, int64_t size, uint8_t *out, int64_t capacity, int32_t *height,
                   int32_t *width, char message[FT_MESSAGE])
{
    (void)src, (void)size, (void)out, (void)capacity, (void)height, (void)width, (void)message;
    return -1;
}

static uint8_t bytes[1 << 20], planes[1 << 22], out[3 * 97 * 131];
static uint64_t words[1 << 16];

int main(int count, char **files)
{
    ft_native *native = calloc(1, sizeof *native);
    char message[FT_MESSAGE];
    fprintf(stderr, "%s\n", ft_simd());
    for (int f = 1; f < count; f++) {
        FILE *file = fopen(files[f], "rb");
        ft_item item = {.src = bytes, .out = out, .seek = words};
        item.size = (int64_t)fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        item.seek_count = (int32_t)ft_seek_make(bytes, item.size, 100, words, 1 << 16, &item.height,
                                                &item.width, message);
        int64_t kept = ft_planes(bytes, item.size, planes, sizeof planes, message);
        printf("%s %d %08x %08x\n", files[f], item.seek_count,
               ft_crc32((uint8_t *)words, 8 * item.seek_count), ft_crc32(planes, kept));
        for (int n = 0; n < 60; n++) {
            item.out_h = 1 + n * 7 % 97, item.out_w = 1 + n * 13 % 131, item.flip = n & 1;
            item.box[0] = n * 5 % (item.height + 5) - 5, item.box[1] = n * 3 % (item.width + 5) - 5;
            item.box[2] = 1 + n * 11 % (item.height + 9), item.box[3] = 1 + n * 17 % (item.width + 9);
            int outcome = ft_native_jpeg(native, &item, message);
            uint32_t made = ft_crc32(out, 3LL * item.out_h * item.out_w);
            ft_item other = item;
            other.src = planes, other.size = kept;
            outcome |= ft_native_planes(native, &other, message);
            printf("%d %08x %08x\n", outcome, made, ft_crc32(out, 3LL * item.out_h * item.out_w));
        }
    }
    ft_native_free(native);
    return 0;
}
