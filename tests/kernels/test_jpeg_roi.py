"""What libjpeg decodes: regions equal full decodes, the filter is Pillow's, damage is an error."""

import zlib
from functools import lru_cache
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from fasttail import kernels

from .conftest import SAMPLINGS, Cut, _jpeg_writer, encode, every_kind, noisy

pytestmark = pytest.mark.skipif(not kernels.available(), reason=kernels.why_missing())

KINDS = list(every_kind(8, 8))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size_hw", [(35, 50), (33, 17), (1, 1), (1, 40), (40, 1), (3, 2)])
def test_a_region_equals_the_same_region_of_a_full_decode(
    cut: Cut, kind: str, size_hw: tuple[int, int]
) -> None:
    jpeg = every_kind(*size_hw)[kind]
    full_HWC = kernels.jpeg_decode(jpeg)
    height, width = full_HWC.shape[:2]
    assert height * width == 1 or full_HWC.std() > 5  # there is something to get wrong
    for box_h in sorted({1, 2, 9, min(17, height), height} & set(range(1, height + 1))):
        for box_w in sorted({1, 2, 9, min(17, width), width} & set(range(1, width + 1))):
            boxes = [
                (top, left, box_h, box_w)
                for top in range(height - box_h + 1)
                for left in range(0, width - box_w + 1, 1 if height * width < 2000 else 3)
            ]
            images_BHWC = cut(jpeg, boxes, (box_h, box_w), mode=kernels.LIBJPEG)
            assert isinstance(images_BHWC, np.ndarray), images_BHWC
            for image_HWC, (top, left, _, _) in zip(images_BHWC, boxes, strict=True):
                expected = full_HWC[top : top + box_h, left : left + box_w]
                np.testing.assert_array_equal(image_HWC, expected, f"{top=} {left=}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_decode_equals_pillows(kind: str) -> None:
    jpeg = every_kind(61, 43)[kind]
    expected = np.asarray(Image.open(BytesIO(jpeg)).convert("RGB"))
    np.testing.assert_array_equal(kernels.jpeg_decode(jpeg), expected)


@pytest.mark.parametrize("out_hw", [(7, 9), (32, 32), (50, 41), (1, 1), (120, 3)])
def test_the_filter_is_pillows_within_one_level(cut: Cut, out_hw: tuple[int, int]) -> None:
    pixels = noisy(64, 48, seed=2)
    boxes = [(0, 0, 64, 48), (3, 5, 40, 30), (63, 47, 1, 1), (10, 0, 2, 48), (0, 10, 64, 2)]
    images_BHWC = cut(pixels, boxes, out_hw)
    for image_HWC, (top, left, height, width) in zip(images_BHWC, boxes, strict=True):
        region = Image.fromarray(pixels[top : top + height, left : left + width])
        expected = np.asarray(region.resize(out_hw[::-1], Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(image_HWC.astype(int) - expected).max() <= 1


def test_raw_and_jpeg_take_the_same_path(cut: Cut) -> None:
    jpeg = encode(noisy(90, 120, seed=3), subsampling=2)
    pixels = kernels.jpeg_decode(jpeg)
    rng = np.random.default_rng(0)
    sides = rng.integers(4, 80, (60, 2))
    boxes = np.concatenate([rng.integers(-3, 12, (60, 2)), sides], 1)
    # Up to a crop 4.8 times the output, decoding is not scaled.
    np.testing.assert_array_equal(
        cut(jpeg, boxes, (20, 24), mode=kernels.LIBJPEG), cut(pixels, boxes, (20, 24))
    )


def _energy(images_BHWC: np.ndarray) -> float:
    images = images_BHWC.astype(np.float64)
    return float((np.diff(images, axis=1) ** 2).mean() + (np.diff(images, axis=2) ** 2).mean())


# Where more than two positions share a colour, libjpeg-turbo would interpolate from memory that
# nothing was written to: decoding is never scaled.
SCALED = ("4:4:4", "4:2:2", "4:4:0", "4:2:0")


@lru_cache
def _like_a_photograph(sampling: str) -> bytes:
    """Detail at all sizes, mostly in brightness: its energy falls with the square of the
    frequency."""
    rng = np.random.default_rng(4)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(480), np.fft.fftfreq(512), indexing="ij"))
    spectrum = np.fft.fft2(rng.normal(size=(3, 480, 512))) / np.maximum(frequency, 1e-3)
    field = np.fft.ifft2(spectrum).real
    field = field[:1] + 0.3 * field
    pixels = np.clip(128 + 30 * field / field.std(), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return _jpeg_writer.write(np.ascontiguousarray(pixels), sampling, quality=92)


@pytest.mark.parametrize("factor", [4.9, 6, 7.5, 9.7, 14, 19])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_scaled_decoding_shows_neither_in_brightness_nor_in_sharpness(
    cut: Cut, factor: float, sampling: str
) -> None:
    out = 24
    side = round(out * factor)
    jpeg = _like_a_photograph(sampling)
    stored = kernels.jpeg_decode(jpeg)
    room = np.array(stored.shape[:2]) - side
    corners = (np.random.default_rng(5).uniform(size=(40, 2)) * room).astype(int)
    boxes = np.concatenate([corners, np.full((40, 2), side)], 1)
    from_jpeg, from_raw = (
        cut(jpeg, boxes, (out, out), mode=kernels.LIBJPEG),
        cut(stored, boxes, (out, out)),
    )
    assert isinstance(from_jpeg, np.ndarray)
    assert isinstance(from_raw, np.ndarray)
    difference = from_jpeg.astype(float) - from_raw
    assert (difference != 0).any() == (sampling in SCALED)
    assert np.abs(difference).mean() <= 0.5
    assert abs(difference.mean()) <= 0.1
    assert _energy(from_jpeg) / _energy(from_raw) == pytest.approx(1, abs=0.02)


def test_outside_the_image_is_black_and_nothing_else_is(cut: Cut) -> None:
    pixels = np.full((10, 12, 3), 200, np.uint8)
    same_size = cut(pixels, [(-2, -3, 14, 18)], (14, 18))
    assert isinstance(same_size, np.ndarray)
    expected = np.zeros((14, 18, 3), np.uint8)
    expected[2:12, 3:15] = 200
    np.testing.assert_array_equal(same_size[0], expected)
    for stored in (pixels, encode(pixels)):
        resized = cut(stored, [(-5, -6, 20, 24), (30, 30, 4, 4), (-9, 0, 9, 9)], (40, 48))
        assert isinstance(resized, np.ndarray)
        assert (resized[0, :8] == 0).all()
        assert (np.abs(resized[0, 13:27, 15:33].astype(int) - 200) <= 1).all()
        assert (resized[1:] == 0).all()


def test_a_flip_is_the_mirror_image(cut: Cut) -> None:
    pixels = noisy(40, 40, seed=5)
    for out_hw in [(20, 33), (40, 40)]:
        straight = cut(pixels, [(0, 0, 40, 40), (-4, 6, 40, 40)], out_hw)
        mirrored = cut(pixels, [(0, 0, 40, 40), (-4, 6, 40, 40)], out_hw, flips=True)
        assert isinstance(straight, np.ndarray)
        assert isinstance(mirrored, np.ndarray)
        assert (straight != mirrored).any()
        if out_hw == (40, 40):
            np.testing.assert_array_equal(straight[:, :, ::-1], mirrored)
        else:
            assert np.abs(straight[:, :, ::-1].astype(int) - mirrored).max() <= 1


def test_damage_is_an_error_with_a_reason(cut: Cut) -> None:
    jpeg = encode(noisy(64, 64, seed=6))
    assert kernels.jpeg_check(jpeg) is None
    whole = [(0, 0, 64, 64)]
    cases = {
        "Premature end": jpeg[: len(jpeg) // 2],
        "Not a JPEG": b"GIF89a" + jpeg[6:],
        "no bytes": b"",
    }
    for reason, damaged in cases.items():
        assert reason.lower() in str(kernels.jpeg_check(damaged)).lower()
        failed = cut(damaged, whole, (32, 32), size_hw=(64, 64))
        assert isinstance(failed, tuple)
        assert reason.lower() in failed[1].lower()
    with pytest.raises(ValueError, match="Premature"):
        kernels.jpeg_decode(cases["Premature end"])


def test_what_the_index_says_must_be_so(cut: Cut) -> None:
    jpeg = encode(noisy(30, 20, seed=7))
    failed = cut(jpeg, [(0, 0, 8, 8)], (8, 8), size_hw=(20, 30))
    assert failed == (0, "the JPEG has 20x30 pixels (width x height), the index says 30x20")
    failed = cut(noisy(10, 10, seed=8), [(0, 0, 8, 8)], (8, 8), size_hw=(10, 11))
    assert failed == (0, "300 bytes of pixels, not 10 x 11 x 3")


def test_the_checksum_is_zlibs(cut: Cut) -> None:
    for size in (1, 7, 8, 9, 1000):
        pixels = noisy(size, 1, seed=size)
        right = zlib.crc32(pixels.tobytes())
        assert isinstance(cut(pixels, [(0, 0, 1, 1)], (1, 1), crc32=right), np.ndarray)
        wrong = cut(pixels, [(0, 0, 1, 1)], (1, 1), crc32=right ^ 1)
        assert isinstance(wrong, tuple)
        assert "checksum" in wrong[1]


def test_what_no_engine_can_decode_is_refused() -> None:
    pixels = Image.fromarray(noisy(32, 32, seed=9))
    cmyk = encode(np.asarray(pixels.convert("CMYK"))[:, :, :3])
    assert kernels.jpeg_check(cmyk) is None  # a guard: RGB data is fine
    file = BytesIO()
    pixels.convert("CMYK").save(file, "JPEG")
    assert kernels.jpeg_check(file.getvalue()) == "JPEG that is neither RGB nor grey"
    arithmetic = bytearray(encode(np.asarray(pixels)))
    arithmetic[arithmetic.index(b"\xff\xc0") + 1] = 0xC9
    assert kernels.jpeg_check(bytes(arithmetic)) == "arithmetic-coded JPEG"


def test_a_file_of_very_many_scans_is_refused() -> None:
    jpeg = encode(noisy(16, 16, seed=10), progressive=True)
    first = jpeg.index(b"\xff\xda")
    second = jpeg.index(b"\xff", first + 2)
    while jpeg[second + 1] == 0:
        second = jpeg.index(b"\xff", second + 2)
    scan = jpeg[first:second]
    hostile = jpeg[:first] + scan * 300 + jpeg[second:]
    assert kernels.jpeg_check(hostile) is not None


def test_wrong_arguments_are_refused_before_anything_runs(cut: Cut) -> None:
    pixels = noisy(8, 8, seed=11)
    for box in [(0, 0, 0, 8), (0, 0, 8, -1), (0, 0, 70000, 8)]:
        with pytest.raises(ValueError, match="side outside"):
            cut(pixels, [box], (8, 8))
