/* Vectors of AVX2: two lanes. See simd.h. */
#define LANES 2
typedef __m256i V;
typedef __m256i W;
OP V v_load(const int16_t *p) { return _mm256_loadu_si256((const V *)p); }
OP V v_load_bytes(const uint8_t *p, const uint8_t *q)
{
    return _mm256_cvtepu8_epi16(
        _mm_unpacklo_epi64(_mm_loadl_epi64((const __m128i *)p), _mm_loadl_epi64((const __m128i *)q)));
}
OP V v_load_lanes(const int16_t *p, const int16_t *q)
{
    return _mm256_loadu2_m128i((const __m128i *)q, (const __m128i *)p);
}
OP void v_store(int16_t *p, V a) { _mm256_storeu_si256((V *)p, a); }
OP V v_twice(const int16_t *p)
{
    __m256i a = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_or_si256(a, _mm256_slli_epi32(a, 16));
}
OP void v_store_lane0(int16_t *p, V a) { _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(a)); }
OP void v_store_lane1(int16_t *p, V a)
{
    _mm_storeu_si128((__m128i *)p, _mm256_extracti128_si256(a, 1));
}
OP V v_all(int16_t x) { return _mm256_set1_epi16(x); }
OP V v_evens(void) { return _mm256_set1_epi32(0xFFFF); }
OP V v_odds(void) { return _mm256_set1_epi32((int32_t)0xFFFF0000); }
OP V v_every_lane(const int16_t *p)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p));
}
OP V v_add(V a, V b) { return _mm256_add_epi16(a, b); }
OP V v_sub(V a, V b) { return _mm256_sub_epi16(a, b); }
OP V v_adds(V a, V b) { return _mm256_adds_epi16(a, b); }
OP V v_subs(V a, V b) { return _mm256_subs_epi16(a, b); }
OP V v_mul(V a, V b) { return _mm256_mullo_epi16(a, b); }
OP V v_mulr(V a, V b) { return _mm256_mulhrs_epi16(a, b); }
OP V v_min(V a, V b) { return _mm256_min_epi16(a, b); }
OP V v_max(V a, V b) { return _mm256_max_epi16(a, b); }
OP V v_greater(V a, V b) { return _mm256_cmpgt_epi16(a, b); }
OP V v_and(V a, V b) { return _mm256_and_si256(a, b); }
OP V v_or(V a, V b) { return _mm256_or_si256(a, b); }
OP V v_shl7(V a) { return _mm256_slli_epi16(a, 7); }
OP int v_any(V a) { return !_mm256_testz_si256(a, a); }
OP V v_zip_lo16(V a, V b) { return _mm256_unpacklo_epi16(a, b); }
OP V v_zip_hi16(V a, V b) { return _mm256_unpackhi_epi16(a, b); }
OP V v_zip_lo32(V a, V b) { return _mm256_unpacklo_epi32(a, b); }
OP V v_zip_hi32(V a, V b) { return _mm256_unpackhi_epi32(a, b); }
OP V v_zip_lo64(V a, V b) { return _mm256_unpacklo_epi64(a, b); }
OP V v_zip_hi64(V a, V b) { return _mm256_unpackhi_epi64(a, b); }
OP V v_pair(int16_t k, int16_t l)
{
    return _mm256_set1_epi32((int32_t)((uint32_t)(uint16_t)l << 16 | (uint16_t)k));
}
OP W w_mul_lo(V a, V b, int16_t k, int16_t l)
{
    return _mm256_madd_epi16(v_zip_lo16(a, b), v_pair(k, l));
}
OP W w_mul_hi(V a, V b, int16_t k, int16_t l)
{
    return _mm256_madd_epi16(v_zip_hi16(a, b), v_pair(k, l));
}
OP W w_shl13_lo(V a) { return _mm256_srai_epi32(_mm256_unpacklo_epi16(_mm256_setzero_si256(), a), 3); }
OP W w_shl13_hi(V a) { return _mm256_srai_epi32(_mm256_unpackhi_epi16(_mm256_setzero_si256(), a), 3); }
OP W w_all(int32_t x) { return _mm256_set1_epi32(x); }
OP W w_add(W a, W b) { return _mm256_add_epi32(a, b); }
OP W w_sub(W a, W b) { return _mm256_sub_epi32(a, b); }
#define W_PACK_SHR(lo, hi, bits) \
    _mm256_packs_epi32(_mm256_srai_epi32(lo, bits), _mm256_srai_epi32(hi, bits))

/* (a + 64) >> 7 of the lanes in order, as bytes 0..255 where a is -128..127. */
OP __m128i v_bytes(V a)
{
    a = _mm256_srai_epi16(v_adds(a, v_all(64)), 7);
    a = _mm256_permute4x64_epi64(_mm256_packs_epi16(a, a), 0xD8);
    return _mm_xor_si128(_mm256_castsi256_si128(a), _mm_set1_epi8((char)0x80));
}

/* 16 pixels, interleaved by byte shuffles: each of the three results takes its bytes from all colours.
 */
OP void v_store_rgb(uint8_t *out, V red, V green, V blue)
{
    const __m128i r0 = _mm_setr_epi8(0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1, 5);
    const __m128i g0 = _mm_setr_epi8(-1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1);
    const __m128i b0 = _mm_setr_epi8(-1, -1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1);
    const __m128i r1 = _mm_setr_epi8(-1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10, -1);
    const __m128i g1 = _mm_setr_epi8(5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10);
    const __m128i b1 = _mm_setr_epi8(-1, 5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1);
    const __m128i r2 = _mm_setr_epi8(-1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1, -1);
    const __m128i g2 = _mm_setr_epi8(-1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1);
    const __m128i b2 = _mm_setr_epi8(10, -1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15);
    __m128i r = v_bytes(red), g = v_bytes(green), b = v_bytes(blue), *to = (__m128i *)out;
    _mm_storeu_si128(to, _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(r, r0), _mm_shuffle_epi8(g, g0)),
                                      _mm_shuffle_epi8(b, b0)));
    _mm_storeu_si128(to + 1,
                     _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(r, r1), _mm_shuffle_epi8(g, g1)),
                                  _mm_shuffle_epi8(b, b1)));
    _mm_storeu_si128(to + 2,
                     _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(r, r2), _mm_shuffle_epi8(g, g2)),
                                  _mm_shuffle_epi8(b, b2)));
}
