/* The kernel under AddressSanitizer and UBSan: real and odd files as they are, then random mutations.
 *
 *     fuzz MUTATIONS SEED FILE...
 *
 * Every file is decoded whole, checked, and put through boxes at edges and beyond, with seek indices good
 * and spoilt; then mutations of randomly chosen files, whose decoding may fail but must not do anything
 * undefined. Where a check says that a file is good, decoding must agree. Ends with 0, or at the first
 * fault, with the sanitizer's report.
 *
 * With -DFT_LIBFUZZER it is libFuzzer's target instead (tools/sanitize.py --fuzz).
 */
#include "seek.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int ft_jpeg_decode(const uint8_t *src, int64_t size, uint8_t *out, int64_t capacity, int32_t *height,
                   int32_t *width, char message[FT_MESSAGE]);
int64_t ft_seek_most(int64_t size, int32_t spacing);
int64_t ft_seek_make(const uint8_t *src, int64_t size, int32_t spacing, uint64_t *words,
                     int64_t capacity, int32_t *height, int32_t *width, char message[FT_MESSAGE]);
int64_t ft_planes(const uint8_t *src, int64_t size, uint8_t *out, int64_t capacity,
                  char message[FT_MESSAGE]);

/* Of a file that is decoded: the hunt is for faults, not for large images. */
#define MOST_PIXELS 4000000

static uint64_t state;
static ft_decoder *decoder;

static uint32_t draw(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return below ? (uint32_t)(state >> 11) % below : 0;
}

/* Makes an item in memory of just its size. 0 if that can't be. */
static uint8_t *make(ft_item item, char message[FT_MESSAGE])
{
    item.out = malloc(3 * (size_t)item.out_h * (size_t)item.out_w);
    if (!item.out)
        abort();
    if (!ft_decode(decoder, &item, message)) {
        /* Under valgrind, a pixel that comes from memory nobody wrote to shows here. */
        if (ft_crc32(item.out, 3LL * item.out_h * item.out_w) == 1)
            fputs("", stderr);
        return item.out;
    }
    free(item.out);
    return NULL;
}

static void stop(const char *what, const char *message)
{
    fprintf(stderr, "%s: %s\n", what, message);
    abort();
}

/* Whether two ways make the same of an item. */
static void compare(const ft_item *one, const ft_item *other, const char *what)
{
    char message[FT_MESSAGE] = "";
    uint8_t *a = make(*one, message), *b = make(*other, message);
    if (!a != !b)
        stop(what, message);
    if (a && memcmp(a, b, 3 * (size_t)one->out_h * (size_t)one->out_w))
        stop(what, "other pixels");
    free(a);
    free(b);
}

/* Ours and libjpeg's, of a good file, at full size: rounded differently, no more. What mutations make
 * of colours is beside the point: black and white are left out, which are what brightness beyond all
 * bounds becomes (libjpeg's vectors let some of it come round), and images that have little else. */
static void near(const ft_item *item)
{
    char message[FT_MESSAGE] = "";
    ft_item other = *item;
    other.mode = FT_LIBJPEG;
    uint8_t *a = make(*item, message), *b = make(other, message);
    if (!a || !b)
        stop("a good file", message);
    int64_t difference = 0, compared = 0;
    for (int64_t k = 0; k < 3LL * item->out_h * item->out_w; k++) {
        int inside = a[k] > 0 && a[k] < 255 && b[k] > 0 && b[k] < 255;
        compared += inside;
        difference += inside ? abs(a[k] - b[k]) : 0;
    }
    if (2 * compared > 3LL * item->out_h * item->out_w && difference > 12 * compared)
        stop("a good file", "libjpeg's pixels are other ones");
    free(a);
    free(b);
}

/* A seek index that is none, or nearly one. */
static void spoil(uint64_t *words, int64_t count)
{
    for (uint32_t n = 1 + draw(4); n > 0; n--) {
        uint64_t *word = words + draw(draw(2) ? 4 : (uint32_t)count) % count;
        switch (draw(3)) {
        case 0: *word ^= 1ULL << draw(64); break;
        case 1: *word = (uint64_t)draw(0xFFFFFFFF) << 32 | draw(0xFFFFFFFF); break;
        default: *word = words[draw((uint32_t)count)]; break;
        }
    }
}

static void through_boxes(const uint8_t *src, int64_t size, int32_t height, int32_t width, int good)
{
    char message[FT_MESSAGE];
    int32_t spacing = 1 + (int32_t)draw(400), h, w;
    int64_t most = ft_seek_most(size, spacing), bytes = ft_planes(src, size, NULL, 0, message);
    uint64_t *made = malloc((size_t)most * 8), *words = NULL, *spoilt = NULL;
    uint8_t *planes = malloc(bytes > 0 ? (size_t)bytes : 1);
    if (!made || !planes)
        abort();
    int64_t count = ft_seek_make(src, size, spacing, made, most, &h, &w, message);
    int64_t kept = bytes > 0 ? ft_planes(src, size, planes, bytes, message) : 0;
    if (count > 0) { /* in blocks of their size */
        words = malloc((size_t)count * 8);
        spoilt = malloc((size_t)count * 8);
        if (!words || !spoilt)
            abort();
        memcpy(words, made, (size_t)count * 8);
        memcpy(spoilt, made, (size_t)count * 8);
    }
    free(made);
    for (int n = 0; n < 6; n++) {
        ft_item item = {.src = src, .size = size, .height = height, .width = width}, other;
        item.out_h = 1 + (int32_t)draw(40);
        item.out_w = 1 + (int32_t)draw(40);
        item.box[2] = 1 + (int32_t)draw((uint32_t)height + 4);
        item.box[3] = 1 + (int32_t)draw((uint32_t)width + 4);
        if (n == 0) {
            item.box[2] = height < 64 ? height : 64;
            item.box[3] = width < 64 ? width : 64;
            item.out_h = item.box[2];
            item.out_w = item.box[3];
        }
        if (n == 1 || n == 2) { /* scaled, to a half and to a quarter */
            item.box[2] = height;
            item.box[3] = width;
            item.out_h = ft_most(height / (5 * n), 1);
            item.out_w = ft_most(width / (5 * n), 1);
        }
        item.box[0] = (int32_t)draw((uint32_t)height + 8) - 4;
        item.box[1] = (int32_t)draw((uint32_t)width + 8) - 4;
        item.flip = (uint8_t)draw(2);
        free(make(item, message));
        if (n == 0 && good)
            near(&item);
        other = item;
        if (words) {
            other.seek = words;
            other.seek_count = (int32_t)count;
            compare(&item, &other, "with a seek index");
            spoil(spoilt, count);
            other.seek = spoilt;
            free(make(other, message));
            ft_jpeg jpeg; /* and as somebody would write it who wants it to be followed */
            if (ft_header(&jpeg, src, size))
                spoilt[0] =
                    ft_seek_head(&jpeg, src, spoilt + 1, count - 1, (int32_t)(words[0] >> 32 & 0xFFFF));
            free(make(other, message));
        }
        if (kept > 0) {
            other = item;
            other.src = planes;
            other.size = kept;
            other.mode = FT_PLANES;
            compare(&item, &other, "from planes");
        }
        other = item;
        other.mode = FT_LIBJPEG;
        free(make(other, message));
        other = item; /* a JPEG, or a mutation of one, as if it were planes */
        other.mode = FT_PLANES;
        free(make(other, message));
    }
    free(words);
    free(spoilt);
    free(planes);
}

/* 1 if the file is good. `bytes` is a block of exactly `size` bytes, so that reading past it shows. */
static int try_file(const uint8_t *bytes, int64_t size)
{
    char message[FT_MESSAGE];
    int32_t height = 0, width = 0;
    int checked = ft_jpeg_decode(bytes, size, NULL, 0, &height, &width, message);
    if ((int64_t)height * width > MOST_PIXELS)
        return 0;
    if (height > 0 && width > 0)
        through_boxes(bytes, size, height, width, checked == 0);
    int64_t capacity = 3LL * height * width;
    uint8_t *pixels = malloc((size_t)capacity + 1);
    if (!pixels)
        abort();
    int decoded = ft_jpeg_decode(bytes, size, pixels, capacity, &height, &width, message);
    free(pixels);
    if (checked == 0 && decoded != 0) {
        fprintf(stderr, "the check says good, decoding says: %s\n", message);
        abort();
    }
    return checked == 0;
}

/* As `try_file`; what is tried follows from the last bytes, so that it is the same whenever and wherever
 * this input is. */
static int try_input(const uint8_t *bytes, int64_t size)
{
    state = 0x9E3779B97F4A7C15u;
    for (int64_t k = size > 8 ? size - 8 : 0; k < size; k++)
        state = (state << 8 | state >> 56) ^ bytes[k];
    return try_file(bytes, size);
}

#ifdef FT_LIBFUZZER

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (!decoder && !(decoder = ft_decoder_new()))
        abort();
    try_input(bytes, (int64_t)size);
    return 0;
}

#else

static uint8_t *mutate(const uint8_t *bytes, int64_t size, int64_t *new_size)
{
    *new_size = size;
    if (draw(8) == 0)
        *new_size = draw((uint32_t)size + 1);
    uint8_t *mutated = malloc((size_t)*new_size + (*new_size == 0));
    if (!mutated)
        abort();
    memcpy(mutated, bytes, (size_t)*new_size);
    /* Headers are small and decide most: half of the changes go to the first 700 bytes. */
    for (uint32_t n = 1 + draw(6); n > 0 && *new_size > 0; n--) {
        uint32_t reach = draw(2) && *new_size > 700 ? 700 : (uint32_t)*new_size;
        uint32_t at = draw(reach);
        switch (draw(4)) {
        case 0: mutated[at] = (uint8_t)draw(256); break;
        case 1: mutated[at] ^= (uint8_t)(1u << draw(8)); break;
        case 2: mutated[at] = draw(2) ? 0xFF : 0; break;
        default: {
            uint32_t from = draw((uint32_t)*new_size), length = draw(64);
            if (from + length <= *new_size && at + length <= *new_size)
                memmove(mutated + at, mutated + from, length);
        }
        }
    }
    return mutated;
}

int main(int count, char **arguments)
{
    if (count < 4)
        return fprintf(stderr, "fuzz MUTATIONS SEED FILE...\n"), 2;
    long mutations = strtol(arguments[1], NULL, 10);
    int files = count - 3, good = 0, good_mutations = 0;
    uint8_t **contents = calloc((size_t)files, sizeof *contents);
    int64_t *sizes = calloc((size_t)files, sizeof *sizes);
    decoder = ft_decoder_new();
    if (!contents || !sizes || !decoder)
        abort();
    for (int f = 0; f < files; f++) {
        FILE *file = fopen(arguments[f + 3], "rb");
        if (!file)
            return perror(arguments[f + 3]), 2;
        fseek(file, 0, SEEK_END);
        sizes[f] = ftell(file);
        rewind(file);
        contents[f] = malloc((size_t)sizes[f] + (sizes[f] == 0));
        if (!contents[f] || fread(contents[f], 1, (size_t)sizes[f], file) != (size_t)sizes[f])
            abort();
        fclose(file);
        good += try_input(contents[f], sizes[f]);
    }
    state = 0x9E3779B97F4A7C15u ^ strtoull(arguments[2], NULL, 10);
    for (long m = 0; m < mutations; m++) {
        uint32_t f = draw((uint32_t)files);
        int64_t size;
        uint8_t *mutated = mutate(contents[f], sizes[f], &size);
        good_mutations += try_file(mutated, size);
        free(mutated);
    }
    printf("%d files, %d good; %ld mutations, %d good: no fault\n", files, good, mutations,
           good_mutations);
    for (int f = 0; f < files; f++)
        free(contents[f]);
    free(contents);
    free(sizes);
    ft_decoder_free(decoder);
    return 0;
}

#endif
