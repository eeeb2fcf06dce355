"""The quick check of a JPEG against a full decode by libjpeg that takes no warning."""

import io
import random
from contextlib import nullcontext

import numpy as np
import photos
import pytest
from PIL import Image

from fasttail import kernels
from fasttail.shards.image import Rule, pixels_of, prepare
from fasttail.shards.jpeg import BadImage

pytestmark = pytest.mark.skipif(not kernels.available(), reason="the decoding kernel is not built")


def small_jpegs() -> list[bytes]:
    rng = np.random.default_rng(0)
    found = []
    for k in range(48):
        height, width = rng.integers(1, 60, 2)
        noise = rng.normal(128, (5, 40, 90)[k % 3], (height, width, 3))
        image = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
        image = image.convert("RGB" if k % 4 else "L")
        how = {"restart_marker_blocks": int(rng.integers(1, 5))} if k % 5 == 0 else {}
        quality = (10, 75, 100)[k % 7 % 3]
        optimize, progressive = k % 2 == 0, k % 11 == 0
        found.append(
            photos.saved(
                image,
                "JPEG",
                quality=quality,
                subsampling=k % 3,
                optimize=optimize,
                progressive=progressive,
                **how,
            )
        )
    return found


def damage(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 3])):
        at = rng.randrange(2, len(damaged))
        kind = rng.randrange(4)
        if kind == 0:
            damaged[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            damaged[at] = rng.choice([0, 0xFF, 0xD0, 0xD9])
        elif kind == 2 and len(damaged) > 40:
            del damaged[at : at + rng.choice([1, 2, 9])]
        else:
            damaged[at:at] = bytes(rng.choice([0, 0xFF, 0x5A]) for _ in range(rng.choice([1, 3])))
    return bytes(damaged)


def decodes(content: bytes) -> bool:
    try:
        kernels.jpeg_decode(content)
    except ValueError:
        return False
    return True


def test_what_the_check_lets_pass_decodes_and_what_decodes_passes() -> None:
    good = small_jpegs()
    assert all(kernels.jpeg_check(content) is None for content in good)
    rng = random.Random(0)
    passed = failed = 0
    for _ in range(4000):
        content = damage(rng.choice(good), rng)
        ok = kernels.jpeg_check(content) is None
        assert ok == decodes(content), content
        passed += ok
        failed += not ok
    assert passed > 300
    assert failed > 1000


def test_bytes_after_the_end_do_no_harm() -> None:
    for content in small_jpegs():
        assert kernels.jpeg_check(content + b"\0\xff\xd8 anything") is None


def test_what_goes_in_as_it_is_pillow_decodes_to_the_same_pixels() -> None:
    """As the engine `reference` opens files. Headers are damaged more than their share."""
    rule = Rule(
        check="decode", seek_spacing=0, exif="ignore", progressive="keep", max_side=None,
        jpeg_quality=95, raw_below_px=0, max_pixels=10**6,
    )  # fmt: skip
    good, rng = small_jpegs(), random.Random(1)
    unchanged = 0
    for _ in range(1500):
        content = rng.choice(good)
        scan = content.index(b"\xff\xda")
        content = damage(content[:scan], rng) + content[scan:]
        try:
            made = prepare(content, rule, decode=True, big=lambda pixels: nullcontext())
        except BadImage:
            continue
        if made.kind != "as is":
            continue
        with Image.open(io.BytesIO(made.data), formats=["JPEG"]) as image:
            expected = np.array(image.convert("RGB"))
        assert (pixels_of(made.mode, made.height, made.width, made.data) == expected).all()
        unchanged += made.data == content
    assert unchanged > 200
