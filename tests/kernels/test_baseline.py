"""Progressive files as baseline ones: the same coefficients, the same pixels, the same markers."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from fasttail import kernels

from .conftest import Cut, encode, every_kind, noisy

pytestmark = pytest.mark.skipif(not kernels.available(), reason=kernels.why_missing())


@pytest.mark.parametrize("kind", list(every_kind(8, 8)))
@pytest.mark.parametrize("size_hw", [(61, 43), (1, 1), (1, 30)])
def test_the_baseline_file_has_the_same_pixels(kind: str, size_hw: tuple[int, int]) -> None:
    jpeg = every_kind(*size_hw)[kind]
    baseline = kernels.jpeg_to_baseline(jpeg)
    assert b"\xff\xc2" not in baseline[:700]
    np.testing.assert_array_equal(kernels.jpeg_decode(baseline), kernels.jpeg_decode(jpeg))
    assert len(kernels.jpeg_seek(baseline, 200)) > 1


def test_a_progressive_crop_is_then_one_for_our_decoder(cut: Cut) -> None:
    progressive = encode(noisy(90, 70, seed=1), progressive=True, subsampling=2)
    assert len(kernels.jpeg_seek(progressive, 200)) == 0
    baseline = kernels.jpeg_to_baseline(progressive)
    seek, box = kernels.jpeg_seek(baseline, 200), [(20, 10, 50, 40)]
    ours, libjpegs = cut(baseline, box, (32, 32), seek=seek), cut(progressive, box, (32, 32))
    assert isinstance(ours, np.ndarray)
    assert isinstance(libjpegs, np.ndarray)
    assert np.abs(ours.astype(int) - libjpegs).mean() < 1


def test_a_file_without_its_last_scans_stays_progressive() -> None:
    """libjpeg smooths what is missing, from the blocks around."""
    whole = encode(noisy(90, 70, seed=4), progressive=True)
    tables = whole.rindex(b"\xff\xc4")
    less = whole[:tables] + b"\xff\xd9"
    assert kernels.jpeg_check(less) is None
    assert kernels.jpeg_to_baseline(less) == b""
    assert kernels.jpeg_to_baseline(whole) != b""


def test_markers_stay() -> None:
    image, exif = Image.fromarray(noisy(20, 30, seed=2)), Image.Exif()
    exif[0x0112] = 6
    file = BytesIO()
    image.save(file, "JPEG", progressive=True, exif=exif, icc_profile=b"profile", comment=b"said")
    made = Image.open(BytesIO(kernels.jpeg_to_baseline(file.getvalue())))
    assert made.getexif()[0x0112] == 6
    assert made.info["icc_profile"] == b"profile"
    assert made.info["comment"] == b"said"


def test_a_damaged_file_is_refused() -> None:
    progressive = encode(noisy(90, 70, seed=3), progressive=True)
    for content in (progressive[: len(progressive) // 2], b"", b"no JPEG"):
        with pytest.raises(ValueError, match=r"\w"):
            kernels.jpeg_to_baseline(content)
