from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import photos
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError

from fasttail.shards import jpeg, tail
from fasttail.shards.image import (
    Rule,
    Stored,
    pixels_of,
    prepare,
    shrink_area,
    shrunk_size,
)
from fasttail.shards.jpeg import BadImage
from fasttail.shards.table import group_by_class

RULE = Rule(
    check="decode",
    seek_spacing=0,
    exif="ignore",
    progressive="keep",
    max_side=None,
    jpeg_quality=95,
    raw_below_px=64,
    max_pixels=100_000_000,
)


def stored(source: bytes | np.ndarray, rule: Rule = RULE) -> Stored:
    return prepare(source, rule, decode=False, big=lambda pixels: nullcontext())


def area_mean(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """By definition: every source pixel is cut into height x width equal pieces."""
    big = image.repeat(height, 0).repeat(width, 1).astype(float)
    h, w = image.shape[:2]
    return big.reshape(height, h, width, w, -1).mean((1, 3))


@given(h=st.integers(1, 23), w=st.integers(1, 23), data=st.data())
def test_shrinking_takes_the_mean_of_the_area(h: int, w: int, data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, h)), data.draw(st.integers(1, w))
    image = np.random.default_rng(h * w).integers(0, 256, (h, w, 3), dtype=np.uint8)
    expected = area_mean(image, height, width)
    assert np.abs(shrink_area(image, height, width) - expected).max() <= 0.501


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(8, 3000))
def test_a_shrunk_image_keeps_its_proportions(h: int, w: int, limit: int) -> None:
    height, width = shrunk_size(h, w, limit)
    assert 1 <= max(height, width) <= max(limit, 1)
    if max(h, w) <= limit:
        assert (height, width) == (h, w)
    else:
        assert max(height, width) == limit
        assert abs(height * w - width * h) <= max(h, w)


@pytest.mark.parametrize(
    ("mode", "dtype", "scale"), [("I;16", "<u2", 257), ("I;16B", ">u2", 257), ("L", "u1", 1)]
)
def test_16_bit_images_keep_their_upper_byte(mode: str, dtype: str, scale: int) -> None:
    grey = np.linspace(0, 255, 60 * 80).reshape(60, 80).astype(int)
    image = Image.frombytes(mode, (80, 60), (grey * scale).astype(dtype).tobytes())
    made = stored(photos.saved(image, "TIFF"), RULE)
    found = pixels_of(made.mode, made.height, made.width, made.data)
    assert np.abs(found[..., 0].astype(int) - grey).max() <= 4


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [True, False])
def test_the_header_says_size_and_what_goes_in_as_it_is(mode: str, progressive: bool) -> None:
    content = photos.encoded(1, mode=mode, size=(37, 59), progressive=progressive)
    header = jpeg.read_header(content)
    assert (header.height, header.width) == (37, 59)
    assert header.plain == (mode != "CMYK")
    assert (stored(content, RULE).kind == "as is") == header.plain


@given(st.integers(2, 600), st.binary(max_size=4))
def test_a_cut_or_changed_header_is_a_bad_image_or_a_header(cut: int, junk: bytes) -> None:
    content = photos.SMALL[:cut] + junk
    try:
        header = jpeg.read_header(content)
    except BadImage:
        return
    assert header.height > 0


def test_an_exif_block_of_nonsense_is_no_orientation() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        junk = rng.bytes(40)
        assert jpeg.orientation(b"II*\0\x08\0\0\0" + junk, (0, 48)) in range(1, 9)
        assert jpeg.orientation(junk, (0, 40)) in range(1, 9)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=200))
def test_samples_are_grouped_by_class_in_their_order(labels: list[int]) -> None:
    indptr, samples = group_by_class(np.array(labels, np.int32), 8)
    for c in range(8):
        expected = [i for i, label in enumerate(labels) if label == c]
        assert samples[indptr[c] : indptr[c + 1]].tolist() == expected


def test_ten_percent_of_places_lt_take_more_than_half_of_class_balanced_draws() -> None:
    ranks = np.arange(365)
    counts = np.maximum(5, (4980 * (ranks + 1.0) ** -1.1).astype(int))
    labels = np.repeat(ranks, counts)
    kept = tail.order(labels)[: len(labels) // 10]
    by_q = {q: tail.share_of_draws(labels, kept, q) for q in (0.0, 0.5, 1.0)}
    assert by_q[0.0] > 0.5
    assert by_q[1.0] == pytest.approx(0.1, abs=1e-3)
    assert by_q[0.0] > by_q[0.5] > by_q[1.0]


def test_the_engines_kernel_and_pillow_give_the_same_pixels() -> None:
    from fasttail import kernels

    if not kernels.available():
        pytest.skip("the decoding kernel is not built")
    for _, content, _ in photos.jpegs((6, 6)):
        assert np.array_equal(
            kernels.jpeg_decode(content), np.asarray(photos.opened(content).convert("RGB"))
        )


def with_scans(data: bytes, count: int) -> bytes:
    """A progressive JPEG whose last scan stands there so many times."""
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def test_a_jpeg_of_thousands_of_scans_is_refused_before_anybody_decodes_it() -> None:
    whole = photos.encoded(1, size=(30, 40), progressive=True)
    scans = jpeg.scans(whole)
    assert 5 < scans <= 10
    assert jpeg.scans(photos.SMALL) == 1
    assert jpeg.scans(whole + b"\xff\xda" * 1000) == scans, "what follows the end is no scan"
    many = with_scans(whole, 3000)
    assert jpeg.scans(many) == scans + 2999
    assert len(many) < 700_000
    photos.opened(with_scans(whole, 50)).load()  # Pillow takes each of them
    with pytest.raises(BadImage, match="progression"):  # so says the kernel, and nobody tries on
        stored(many)
    with pytest.raises(BadImage, match="more than 200 scans"):  # Pillow's from the beginning
        stored(many, replace(RULE, max_side=20))


def test_a_jpeg_that_pillow_does_not_open_is_not_stored_as_it_is() -> None:
    whole = photos.encoded(2)
    # A colour profile's segment that ends before its number.
    odd = whole[:2] + b"\xff\xe2\x00\x0eICC_PROFILE\0" + whole[2:]
    with pytest.raises(UnidentifiedImageError):
        photos.opened(odd)
    found = stored(odd)
    assert found.kind == "JPEG, damaged"
    assert "no image" in found.damage
    theirs = np.asarray(photos.opened(found.data)).astype(int)
    assert np.abs(theirs - np.asarray(photos.opened(whole))).mean() < 2
