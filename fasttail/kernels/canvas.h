/* From samples to the output image: what JPEGs and kept planes have in common (canvas.c). */
#ifndef FASTTAIL_CANVAS_H
#define FASTTAIL_CANVAS_H

#include "pixels.h"

/* One axis of a component: `box` positions of the image, from `start` on, become `out`. */
typedef struct {
    int32_t start, box, image; /* may begin before the image and end behind it */
    int32_t out;
    int32_t factor, samples; /* image positions to a sample; samples there are */
    int smooth;              /* interpolated, where there are two positions to a sample */
    int32_t base;            /* the sample that `first` counts from */
    int32_t least;           /* the first sample of all: there is nothing before it */
    int flip;
} ft_axis_plan;

/* Output position i is the sum of `taps` samples, from `first[i]` on. */
typedef struct {
    int32_t *first;
    int16_t *weights; /* [out, taps] */
    int32_t taps;
} ft_weights;

/* 0, or -1 if memory runs out. */
int ft_weights_make(ft_weights *made, ft_scratch *scratch, const ft_axis_plan *plan);

/* What the box needs of a component. */
typedef struct {
    int32_t left, right, top, bottom; /* samples: columns left..right-1, rows top..bottom-1 */
    int32_t first_column,
        first_row;   /* sample at which tiles begin: the MCU's, so that all components' match */
    int32_t columns; /* of a tile */
    int16_t *tiles;  /* [strips of two rows of MCUs][columns][FT_TILE], then room */
    size_t tile_stride;
    int16_t *rows;      /* rows that went across, [kept][stride], row r at r % kept */
    int32_t kept, made; /* rows first_row..made-1 were there */
    ft_weights across, down;
} ft_part;

typedef struct ft_canvas {
    ft_scratch tiles[FT_COMPONENTS], rows[FT_COMPONENTS], across[FT_COMPONENTS], down[FT_COMPONENTS];
    ft_scratch change_tiles[2], change_rows[2], lines, taken;
    const ft_pixels *pixels;
    int (*sink)(struct ft_canvas *canvas,
                int32_t mcu_row); /* takes the tiles: `ft_canvas_pair` if not set */
    const ft_layout *layout;
    const ft_item *item;
    int32_t first_mcu, last_mcu; /* columns of MCUs, the last one excluded */
    int32_t first_mcu_row, last_mcu_row;
    size_t stride; /* of rows, in samples */
    int32_t next;  /* output row */
    int changed;   /* whether shared colours change (canvas.c: bring_back) */
    ft_part part[FT_COMPONENTS];
} ft_canvas;

/* Works out what the item's box needs. 1: nothing, the output is black already; 0; -1 if memory runs
 * out. */
int ft_canvas_begin(ft_canvas *canvas, const ft_layout *layout, const ft_item *item);

/* Strip s of a component, of the pair of MCU rows at hand: whether it is needed, and its tile. */
int ft_canvas_needs(const ft_canvas *canvas, int32_t component, int32_t mcu_row, int32_t strip);
int16_t *ft_canvas_tile(const ft_canvas *canvas, int32_t component, int32_t strip);

/* All tiles of MCU rows `mcu_row` and the next are there: makes what output rows can be made. 0, or -1
 * if memory runs out. */
int ft_canvas_pair(ft_canvas *canvas, int32_t mcu_row);

void ft_canvas_free(ft_canvas *canvas);

#endif
