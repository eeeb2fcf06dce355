/* The inverse DCT: libjpeg's "islow" (Loeffler, Ligtenberg and Moschytz, 12 multiplications a row), bit
 * for bit as libjpeg-turbo's vectors do it. Included once for each kind of processor, after its
 * vectors. */

/* One dimension, for all columns at once, rounded off by `bits`. */
#define IDCT_PASS(v, bits)                                                                        \
    do {                                                                                          \
        const W half = w_all(1 << ((bits)-1));                                                    \
        W z2l = w_mul_lo(v[2], v[6], 10703, 4433), z2h = w_mul_hi(v[2], v[6], 10703, 4433);       \
        W z3l = w_mul_lo(v[2], v[6], 4433, -10704), z3h = w_mul_hi(v[2], v[6], 4433, -10704);     \
        V sum = v_add(v[0], v[4]), difference = v_sub(v[0], v[4]);                                \
        W sl = w_add(w_shl13_lo(sum), half), sh = w_add(w_shl13_hi(sum), half);                   \
        W dl = w_add(w_shl13_lo(difference), half), dh = w_add(w_shl13_hi(difference), half);     \
        W e0l = w_add(sl, z2l), e0h = w_add(sh, z2h), e3l = w_sub(sl, z2l), e3h = w_sub(sh, z2h); \
        W e1l = w_add(dl, z3l), e1h = w_add(dh, z3h), e2l = w_sub(dl, z3l), e2h = w_sub(dh, z3h); \
        V a = v_add(v[7], v[3]), b = v_add(v[5], v[1]);                                           \
        W al = w_mul_lo(a, b, -6436, 9633), ah = w_mul_hi(a, b, -6436, 9633);                     \
        W bl = w_mul_lo(a, b, 9633, 6437), bh = w_mul_hi(a, b, 9633, 6437);                       \
        W o0l = w_add(w_mul_lo(v[7], v[1], -4927, -7373), al),                                    \
          o0h = w_add(w_mul_hi(v[7], v[1], -4927, -7373), ah);                                    \
        W o3l = w_add(w_mul_lo(v[7], v[1], -7373, 4926), bl),                                     \
          o3h = w_add(w_mul_hi(v[7], v[1], -7373, 4926), bh);                                     \
        W o1l = w_add(w_mul_lo(v[5], v[3], -4176, -20995), bl),                                   \
          o1h = w_add(w_mul_hi(v[5], v[3], -4176, -20995), bh);                                   \
        W o2l = w_add(w_mul_lo(v[5], v[3], -20995, 4177), al),                                    \
          o2h = w_add(w_mul_hi(v[5], v[3], -20995, 4177), ah);                                    \
        v[0] = W_PACK_SHR(w_add(e0l, o3l), w_add(e0h, o3h), bits);                                \
        v[7] = W_PACK_SHR(w_sub(e0l, o3l), w_sub(e0h, o3h), bits);                                \
        v[1] = W_PACK_SHR(w_add(e1l, o2l), w_add(e1h, o2h), bits);                                \
        v[6] = W_PACK_SHR(w_sub(e1l, o2l), w_sub(e1h, o2h), bits);                                \
        v[2] = W_PACK_SHR(w_add(e2l, o1l), w_add(e2h, o1h), bits);                                \
        v[5] = W_PACK_SHR(w_sub(e2l, o1l), w_sub(e2h, o1h), bits);                                \
        v[3] = W_PACK_SHR(w_add(e3l, o0l), w_add(e3h, o0h), bits);                                \
        v[4] = W_PACK_SHR(w_sub(e3l, o0l), w_sub(e3h, o0h), bits);                                \
    } while (0)

/* 8 x 8 in every lane: rows become columns. */
OP void turn(V v[8])
{
    V a0 = v_zip_lo16(v[0], v[1]), a1 = v_zip_hi16(v[0], v[1]), a2 = v_zip_lo16(v[2], v[3]),
      a3 = v_zip_hi16(v[2], v[3]);
    V a4 = v_zip_lo16(v[4], v[5]), a5 = v_zip_hi16(v[4], v[5]), a6 = v_zip_lo16(v[6], v[7]),
      a7 = v_zip_hi16(v[6], v[7]);
    V b0 = v_zip_lo32(a0, a2), b1 = v_zip_hi32(a0, a2), b2 = v_zip_lo32(a1, a3),
      b3 = v_zip_hi32(a1, a3);
    V b4 = v_zip_lo32(a4, a6), b5 = v_zip_hi32(a4, a6), b6 = v_zip_lo32(a5, a7),
      b7 = v_zip_hi32(a5, a7);
    v[0] = v_zip_lo64(b0, b4), v[1] = v_zip_hi64(b0, b4), v[2] = v_zip_lo64(b1, b5),
    v[3] = v_zip_hi64(b1, b5);
    v[4] = v_zip_lo64(b2, b6), v[5] = v_zip_hi64(b2, b6), v[6] = v_zip_lo64(b3, b7),
    v[7] = v_zip_hi64(b3, b7);
}

/* Dequantised rows -> columns of samples, `centre` 0 or 128 above their centre. */
OP void transform(V v[8], V centre)
{
    IDCT_PASS(v, 11);
    turn(v);
    IDCT_PASS(v, 18);
    for (int i = 0; i < 8; i++)
        v[i] = v_add(v_shl7(v_max(v_min(v[i], v_all(127)), v_all(-128))), centre);
}

/* Two blocks, one above the other, are eight columns of a tile. Where vectors have more lanes, there
 * are more blocks in one: the last may be done twice, or write beyond the others into room that is
 * there. */
KIND void idct(int16_t *tile, const int16_t *upper, const int16_t *lower, int32_t blocks,
               const int16_t quantizer[FT_BLOCK], int32_t centre)
{
    const V add = v_all((int16_t)(centre * FT_LEVEL));
    V v[8];
#if LANES == 1
    for (int32_t b = 0; b < 2 * blocks; b++) {
        const int16_t *block = (b & 1 ? lower : upper) + b / 2 * FT_BLOCK;
        for (int i = 0; i < 8; i++)
            v[i] = v_mul(v_load(block + 8 * i), v_every_lane(quantizer + 8 * i));
        transform(v, add);
        for (int i = 0; i < 8; i++)
            v_store(tile + b / 2 * 8 * FT_TILE + i * FT_TILE + (b & 1) * 8, v[i]);
    }
#else
    for (int32_t b = 0; b < blocks; b += LANES / 2) {
        int32_t at = b + LANES / 2 > blocks && b ? blocks - LANES / 2 : b;
        for (int i = 0; i < 8; i++)
            v[i] = v_mul(v_load_lanes(upper + at * FT_BLOCK + 8 * i, lower + at * FT_BLOCK + 8 * i),
                         v_every_lane(quantizer + 8 * i));
        transform(v, add);
        int16_t *to = tile + at * 8 * FT_TILE;
        for (int i = 0; i < 8; i++) {
#if LANES == 2
            v_store(to + i * FT_TILE, v[i]);
#else
            v_store_half0(to + i * FT_TILE, v[i]);
            v_store_half1(to + (8 + i) * FT_TILE, v[i]);
#endif
        }
    }
#endif
}
