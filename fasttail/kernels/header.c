/* The one reader of JPEG headers: everything up to the entropy-coded data of a file of our kind. It
 * reads nothing past the end, and refuses what it is not sure that libjpeg reads likewise and without a
 * warning. */
#include "jpeg.h"

#include <string.h>

#define MAX_DIMENSION 65500 /* libjpeg's */

static int word(const uint8_t *p) { return p[0] << 8 | p[1]; }

int ft_layout_complete(ft_layout *layout)
{
    if (layout->height < 1 || layout->width < 1 || layout->height > MAX_DIMENSION ||
        layout->width > MAX_DIMENSION || (int64_t)layout->height * layout->width > FT_MAX_PIXELS ||
        (layout->components != 1 && layout->components != 3))
        return 0;
    int32_t h = 1, v = 1, blocks = 0;
    for (int c = 0; c < layout->components; c++) {
        ft_plane *plane = &layout->plane[c];
        if (plane->h < 1 || plane->h > 4 || plane->v < 1 || plane->v > 4)
            return 0;
        if (layout->components == 1) /* an MCU is a block then, whatever the factors */
            plane->h = plane->v = 1;
        h = ft_most(h, plane->h);
        v = ft_most(v, plane->v);
        blocks += plane->h * plane->v;
    }
    if (blocks > FT_BLOCKS_IN_MCU)
        return 0;
    for (int c = 0; c < layout->components; c++) {
        ft_plane *plane = &layout->plane[c];
        if (h % plane->h || v % plane->v)
            return 0;
        plane->factor_x = h / plane->h;
        plane->factor_y = v / plane->v;
        plane->width = ft_ceil_div(layout->width, plane->factor_x);
        plane->height = ft_ceil_div(layout->height, plane->factor_y);
    }
    layout->mcu_w = 8 * h;
    layout->mcu_h = 8 * v;
    layout->mcus_wide = ft_ceil_div(layout->width, layout->mcu_w);
    layout->mcus_high = ft_ceil_div(layout->height, layout->mcu_h);
    return 1;
}

static int read_codes(ft_jpeg *jpeg, const uint8_t *p, const uint8_t *end)
{
    while (p < end) {
        if (end - p < 17 || p[0] & 0xEC)
            return 0;
        int total = 0;
        for (int i = 1; i <= 16; i++)
            total += p[i];
        if (total > 256 || end - p < 17 + total)
            return 0;
        jpeg->codes[p[0] >> 4][p[0] & 3] = p + 1;
        jpeg->code_bytes[p[0] >> 4][p[0] & 3] = 16 + total;
        p += 17 + total;
    }
    return 1;
}

static int read_quantizers(ft_jpeg *jpeg, const uint8_t *p, const uint8_t *end)
{
    while (p < end) {
        int wide = p[0] >> 4, which = p[0] & 15;
        if (wide > 1 || which > 3 || end - p < 1 + 64 * (1 + wide))
            return 0;
        jpeg->quantizer[which] = p + 1;
        jpeg->wide[which] = wide;
        p += 1 + 64 * (1 + wide);
    }
    return 1;
}

static int read_frame(ft_jpeg *jpeg, const uint8_t *p, const uint8_t *end)
{
    ft_layout *layout = &jpeg->layout;
    if (layout->components || end - p < 6 || p[0] != 8)
        return 0;
    layout->height = word(p + 1);
    layout->width = word(p + 3);
    layout->components = p[5];
    if (layout->components > FT_COMPONENTS || end - p != 6 + 3 * layout->components)
        return 0;
    for (int c = 0; c < layout->components; c++, p += 3) {
        jpeg->component[c].id = p[6];
        layout->plane[c].h = p[7] >> 4;
        layout->plane[c].v = p[7] & 15;
        jpeg->component[c].quantizer = p[8];
        if (p[8] > 3)
            return 0;
        for (int k = 0; k < c; k++)
            if (jpeg->component[k].id == p[6])
                return 0;
    }
    return ft_layout_complete(layout);
}

static int read_scan(ft_jpeg *jpeg, const uint8_t *p, const uint8_t *end)
{
    int components = jpeg->layout.components;
    if (!components || end - p != 4 + 2 * components || p[0] != components)
        return 0;
    for (int c = 0; c < components; c++) { /* libjpeg takes them in the frame's order only */
        int dc = p[2 + 2 * c] >> 4, ac = p[2 + 2 * c] & 15;
        if (p[1 + 2 * c] != jpeg->component[c].id || dc > 3 || ac > 3 || !jpeg->codes[0][dc] ||
            !jpeg->codes[1][ac] || !jpeg->quantizer[jpeg->component[c].quantizer])
            return 0;
        jpeg->component[c].dc = dc;
        jpeg->component[c].ac = ac;
    }
    p += 1 + 2 * components;
    return p[0] == 0 && p[1] == 63 && p[2] == 0;
}

/* As libjpeg decides: a JFIF marker says YCbCr, then Adobe's says which, then the components' names do.
 */
static ft_colour colour(const ft_jpeg *jpeg, int jfif, int adobe)
{
    if (jpeg->layout.components == 1)
        return FT_GREY;
    if (jfif)
        return FT_YCC;
    if (adobe >= 0)
        return adobe == 1 ? FT_YCC : FT_RGB;
    return jpeg->component[0].id == 'R' && jpeg->component[1].id == 'G' && jpeg->component[2].id == 'B'
               ? FT_RGB
               : FT_YCC;
}

int ft_header(ft_jpeg *jpeg, const uint8_t *src, int64_t size)
{
    const uint8_t *at = src + 2, *end = src + size;
    int jfif = 0, adobe = -1;
    memset(jpeg, 0, sizeof *jpeg);
    jpeg->end = end;
    if (size < 4 || word(src) != 0xFFD8)
        return 0;
    while (end - at >= 4) {
        const uint8_t *body = at + 4, *next = at + 2 + word(at + 2);
        int marker = at[1], good = 1;
        if (at[0] != 0xFF || next < body || next > end)
            return 0;
        if (marker == 0xC0 || marker == 0xC1)
            good = read_frame(jpeg, body, next);
        else if (marker == 0xC4)
            good = read_codes(jpeg, body, next);
        else if (marker == 0xDB)
            good = read_quantizers(jpeg, body, next);
        else if (marker == 0xDD)
            good = next - body == 2 && (jpeg->interval = word(body), 1);
        else if (marker == 0xE0) { /* libjpeg warns of other versions of JFIF than 1 */
            int found = next - body >= 14 && !memcmp(body, "JFIF", 5);
            jfif |= found;
            good = !found || body[5] == 1;
        } else if (marker == 0xEE && next - body >= 12 && !memcmp(body, "Adobe", 5)) {
            adobe = body[11];
            good = adobe <= 1; /* of other colour transforms libjpeg warns */
        } else if (marker == 0xDA) {
            jpeg->scan = next;
            jpeg->layout.colour = colour(jpeg, jfif, adobe);
            return read_scan(jpeg, body, next);
        } else
            good = (marker >= 0xE0 && marker <= 0xEF) || marker == 0xFE;
        if (!good)
            return 0;
        at = next;
    }
    return 0;
}
