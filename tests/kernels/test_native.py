"""Our own JPEG decoder: pixels beside a filter in float64, and each way to them beside others."""

import ctypes
import mmap
import os
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from fasttail import kernels

from .conftest import Cut, encode, every_kind, noisy

pytestmark = pytest.mark.skipif(not kernels.available(), reason=kernels.why_missing())

KINDS = [kind for kind in every_kind(8, 8) if not kind.startswith("progressive")]
SIZES = [(35, 50), (33, 17), (1, 1), (1, 40), (40, 1), (3, 2), (70, 150)]
OUT = [(20, 33), (64, 40), (1, 1), (35, 50)]


def test_the_processor_s_vectors_are_found() -> None:
    """As the system lists them; in a wheel too, whose compiler is another."""
    try:
        flags = set(re.findall(r"\S+", Path("/proc/cpuinfo").read_text().partition("\n\n")[0]))
    except OSError:
        pytest.skip("no /proc here")
    if {"avx512f", "avx512bw", "avx2"} <= flags:
        expected = "avx512"
    elif "avx2" in flags:
        expected = "avx2"
    else:
        expected = "neon" if os.uname().machine == "aarch64" else "c"
    env = {name: value for name, value in os.environ.items() if name != "FASTTAIL_SIMD"}
    code = "from fasttail import kernels; print(kernels.simd())"
    said = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True)
    assert said.stdout.decode().strip() == expected


def triangle(box: int, start: int, image: int, out: int) -> np.ndarray:
    """Weights float64 [out, image] of the triangle filter; positions outside are black."""
    scale = box / out
    centre = (np.arange(out)[:, None] + 0.5) * scale
    positions = np.arange(box)[None] + 0.5
    weights = np.maximum(0, 1 - np.abs(positions - centre) / max(scale, 1))
    weights /= weights.sum(1, keepdims=True)
    there = np.zeros((out, image))
    inside = slice(max(0, -start), max(0, min(box, image - start)))
    there[:, max(0, start) : max(0, min(image, start + box))] = weights[:, inside]
    return there


def resized(pixels: np.ndarray, box: np.ndarray, out_hw: tuple[int, int]) -> np.ndarray:
    down = triangle(box[2], box[0], pixels.shape[0], out_hw[0])
    across = triangle(box[3], box[1], pixels.shape[1], out_hw[1])
    rows = np.tensordot(down, pixels.astype(np.float64), 1)
    return np.einsum("xw,ywc->yxc", across, rows)


def boxes_of(height: int, width: int, count: int, seed: int) -> np.ndarray:
    """Boxes inside, at the edges and beyond."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(-6, (height, width), (count, 2))
    sides = rng.integers(1, (height + 8, width + 8), (count, 2))
    return np.concatenate([[[0, 0, height, width]], np.concatenate([corners, sides], 1)])


def waves(height: int, width: int) -> np.ndarray:
    """A smooth image, whose colours stay inside of RGB."""
    y, x = np.mgrid[:height, :width]
    colours = [128 + 45 * np.sin(y / 9 + k) + 40 * np.cos(x / 7 + 2 * k) for k in range(3)]
    return np.stack(colours, -1).astype(np.uint8)


def images(result: np.ndarray | tuple[int, str]) -> np.ndarray:
    assert isinstance(result, np.ndarray), result
    return result


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size_hw", SIZES)
def test_pixels_are_those_of_a_full_decode_filtered_in_float64(
    cut: Cut, kind: str, size_hw: tuple[int, int]
) -> None:
    jpeg = every_kind(*size_hw)[kind]
    pixels = kernels.jpeg_decode(jpeg)
    boxes = boxes_of(*pixels.shape[:2], 12, seed=1)
    for out_hw in OUT:
        made = images(cut(jpeg, boxes, out_hw))
        expected = np.stack([resized(pixels, box, out_hw) for box in boxes])
        assert np.abs(made - expected).mean() <= 0.5
        there = np.stack([resized(np.ones_like(pixels), box, out_hw) for box in boxes])
        assert (made[there == 0] == 0).all()


@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 2}, {"quality": 100}])
def test_pixels_of_a_smooth_image_are_exact_to_a_level_or_two(
    cut: Cut, options: dict[str, int]
) -> None:
    jpeg = encode(waves(150, 170), **options)
    pixels = kernels.jpeg_decode(jpeg)
    boxes = boxes_of(150, 170, 10, seed=2)
    for out_hw in [(150, 170), (64, 64), (224, 224), (5, 3)]:
        difference = images(cut(jpeg, boxes, out_hw)) - np.stack(
            [resized(pixels, box, out_hw) for box in boxes]
        )
        assert np.abs(difference).max() <= 2.5
        assert abs(difference.mean()) <= 0.1


def test_colours_outside_of_rgb_are_clamped_before_they_are_averaged(cut: Cut) -> None:
    # Saturated stripes: what a decoder gives beside them is clamped, pixel by pixel.
    pixels = np.zeros((96, 96, 3), np.uint8)
    pixels[:, ::3] = (255, 0, 0)
    pixels[::5] = (0, 255, 0)
    for subsampling in (0, 1, 2):
        jpeg = encode(pixels, quality=30, subsampling=subsampling)
        decoded = kernels.jpeg_decode(jpeg)
        box = np.array([[0, 0, 96, 96]])
        difference = images(cut(jpeg, box, (40, 40)))[0] - resized(decoded, box[0], (40, 40))
        assert np.abs(difference).mean() <= 2
        assert abs(difference.mean()) <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size_hw", SIZES)
def test_with_and_without_a_seek_index_and_from_planes_the_same_pixels(
    cut: Cut, kind: str, size_hw: tuple[int, int]
) -> None:
    jpeg = every_kind(*size_hw)[kind]
    planes = kernels.jpeg_planes(jpeg)
    height, width = kernels.jpeg_decode(jpeg).shape[:2]
    boxes = boxes_of(height, width, 30, seed=3)
    for out_hw in OUT:
        expected = images(cut(jpeg, boxes, out_hw))
        for spacing in (1, 16, 60, 100_000):
            seek = kernels.jpeg_seek(jpeg, spacing)
            assert len(seek) > 1
            np.testing.assert_array_equal(cut(jpeg, boxes, out_hw, seek=seek), expected)
        kept = cut(planes, boxes, out_hw, size_hw=(height, width), mode=kernels.PLANES)
        np.testing.assert_array_equal(kept, expected)
        mirrored = images(cut(jpeg, boxes, out_hw, flips=True))
        np.testing.assert_array_equal(mirrored[:, :, ::-1], expected)


def test_planes_are_the_samples_at_their_own_sampling() -> None:
    pixels = noisy(50, 70, seed=4)
    jpeg = encode(pixels, subsampling=2)
    planes = kernels.jpeg_planes(jpeg)
    assert len(planes) == 16 + 50 * 70 + 2 * 25 * 35
    y = np.asarray(Image.open(BytesIO(jpeg)).convert("YCbCr"))  # a guard: RGB and back
    decoded = Image.open(BytesIO(jpeg))
    decoded.draft("YCbCr", decoded.size)
    y = np.asarray(decoded)[:, :, 0]
    np.testing.assert_array_equal(planes[16 : 16 + 50 * 70].reshape(50, 70), y)


WHICH = """
import sys, zlib
import numpy as np
from fasttail import kernels
from tests.kernels.conftest import every_kind
from tests.kernels.test_native import KINDS, boxes_of
pool, crc = kernels.Pool(1), 0
for size in [(70, 90), (33, 17), (1, 1)]:
    for kind in KINDS:
        jpeg = every_kind(*size)[kind]
        data, shape = np.frombuffer(jpeg, np.uint8), kernels.jpeg_decode(jpeg).shape
        planes = kernels.jpeg_planes(jpeg)
        for stored, mode in ((data, 0), (planes, kernels.PLANES)):
            for out_hw in [(31, 37), (96, 64), (2, 3)]:
                boxes = boxes_of(shape[0], shape[1], 20, seed=5)
                items = np.zeros(len(boxes), kernels.ITEM)
                items["src"], items["size"], items["mode"] = stored.ctypes.data, stored.size, mode
                items["height"], items["width"], items["box"] = shape[0], shape[1], boxes
                out = np.zeros((len(boxes), *out_hw, 3), np.uint8)
                assert pool.submit(items, out, keep=(stored,)).wait() is None
                crc = zlib.crc32(out, zlib.crc32(planes, crc))
print(kernels.simd(), crc)
"""


def test_every_kind_of_processor_makes_the_same_pixels() -> None:
    made = {}
    for wanted in ("c", "avx2", "avx512", "neon", ""):
        env = {**os.environ, "FASTTAIL_SIMD": wanted}
        run = subprocess.run(
            [sys.executable, "-c", WHICH], env=env, check=True, capture_output=True, text=True
        )
        name, crc = run.stdout.split()
        made[name] = crc
        assert name == wanted or wanted != "c"
    assert len(made) >= 2 or sys.platform != "linux"
    assert len(set(made.values())) == 1, made


def test_a_seek_index_of_another_file_or_a_damaged_one_is_named(cut: Cut) -> None:
    one, other = encode(noisy(80, 80, seed=6)), encode(noisy(80, 80, seed=7))
    box, misfit = [(40, 40, 20, 20)], (0, "the seek index does not fit its bytes")
    seek = kernels.jpeg_seek(one, 100)
    images(cut(one, box, (8, 8), seek=seek))
    assert cut(other, box, (8, 8), seek=seek) == misfit
    assert cut(one, box, (8, 8), seek=seek[:-1].copy()) == misfit
    for word in range(len(seek)):
        damaged = seek.copy()
        damaged[word] ^= np.uint64(1) << np.uint64(word % 64)
        assert cut(one, box, (8, 8), seek=damaged) == misfit
    progressive = encode(noisy(80, 80, seed=6), progressive=True)
    assert len(kernels.jpeg_seek(progressive, 100)) == 0
    with pytest.raises(ValueError, match=r"marker|Huffman|end"):
        kernels.jpeg_seek(one[: len(one) // 2] + b"\xff\xd9", 100)


def before_a_wall(data: bytes) -> memoryview:
    """These bytes, right before memory that nobody may read or write."""
    page = mmap.PAGESIZE
    end = -(-len(data) // page) * page
    memory = mmap.mmap(-1, end + page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    forbid = ctypes.CDLL(None, use_errno=True).mprotect
    assert forbid(ctypes.c_void_p(address + end), ctypes.c_size_t(page), 0) == 0
    memory[end - len(data) : end] = data
    return memoryview(memory)[end - len(data) : end]


def sealed(jpeg: bytes, seek: np.ndarray) -> np.ndarray:
    """The index with the checksum that it ought to have."""
    parts = np.array([crc32(seek[1:].tobytes()), crc32(jpeg[-256:]), len(jpeg)], np.uint32)
    about = int(seek[0]) >> 32 << 32
    return np.concatenate([np.array([about | crc32(parts.tobytes())], np.uint64), seek[1:]])


@pytest.mark.parametrize("kind", ["4:2:0", "4:4:4", "grey", "restarts 4:2:0"])
def test_no_index_however_it_is_made_leads_outside(cut: Cut, kind: str) -> None:
    jpeg = every_kind(90, 120)[kind]
    seek = kernels.jpeg_seek(jpeg, 60)
    np.testing.assert_array_equal(sealed(jpeg, seek), seek)
    boxes, rng = boxes_of(90, 120, 6, seed=11), np.random.default_rng(12)
    stored, named = before_a_wall(jpeg), 0
    for _ in range(200):
        damaged = seek.copy()
        for at in rng.integers(1, len(seek), rng.integers(1, 5)):
            how = [
                damaged[at] ^ np.uint64(1 << int(rng.integers(64))),
                rng.integers(2**64, dtype=np.uint64),  # anywhere
                damaged[at] | np.uint64(2**28 - 1),  # as far behind as can be said
                damaged[rng.integers(1, len(seek))],
            ]
            damaged[at] = how[rng.integers(len(how))]
        words = np.frombuffer(before_a_wall(sealed(jpeg, damaged).tobytes()), np.uint64)
        made = cut(stored, boxes, (16, 16), size_hw=(90, 120), seek=words)
        named += isinstance(made, tuple)
        assert not isinstance(made, tuple) or made[1] == "the seek index does not fit its bytes"
    assert named > 50


def test_an_index_takes_about_the_share_that_its_spacing_says() -> None:
    jpeg = encode(noisy(400, 500, seed=8))
    for spacing in (320, 640, 1280):
        share = 8 * len(kernels.jpeg_seek(jpeg, spacing)) / len(jpeg)
        assert 0.5 < share * spacing / 8 < 1.1


def renamed(jpeg: bytes, ids: bytes) -> bytes:
    """The JPEG without its JFIF marker, its components under other names."""
    data, at = bytearray(jpeg), 2
    while data[at + 1] != 0xDA:
        length = 2 + int.from_bytes(data[at + 2 : at + 4])
        if data[at + 1] == 0xC0:
            data[at + 10 : at + 19 : 3] = ids
        if data[at + 1] == 0xE0:
            del data[at : at + length]
        else:
            at += length
    data[at + 5 : at + 11 : 2] = ids
    return bytes(data)


@pytest.mark.parametrize("ids", [b"RGB", b"abc", bytes([1, 2, 3])])
def test_colours_are_what_libjpeg_takes_them_for(cut: Cut, ids: bytes) -> None:
    jpeg = renamed(encode(waves(40, 48), subsampling=0), ids)
    box = [(3, 5, 30, 40)]
    assert len(kernels.jpeg_seek(jpeg, 100)) > 1  # it is one for our decoder
    ours = images(cut(jpeg, box, (30, 40))).astype(int)
    libjpegs = images(cut(jpeg, box, (30, 40), mode=kernels.LIBJPEG))
    assert np.abs(ours - libjpegs).max() <= 2


def without_tables(jpeg: bytes, marker: int) -> bytes:
    data, at = bytearray(jpeg), 2
    while data[at + 1] != 0xDA:
        length = 2 + int.from_bytes(data[at + 2 : at + 4])
        if data[at + 1] == marker:
            del data[at : at + length]
        else:
            at += length
    return bytes(data)


@pytest.mark.parametrize("mode", [0, kernels.LIBJPEG])
def test_nothing_of_one_image_reaches_the_next(cut: Cut, mode: int) -> None:
    # The session's threads decode other images before and after, with tables of their own.
    plain, box = encode(waves(64, 64), quality=75), [(0, 0, 64, 64)]
    other = encode(noisy(64, 64, seed=9), quality=20, optimize=True)
    frame = without_tables(plain, 0xC4)  # as in a video: with the standard's tables
    for _ in range(4):
        images(cut(other, box, (64, 64), size_hw=(64, 64), mode=mode))
        expected = images(cut(plain, box, (64, 64), mode=kernels.LIBJPEG))
        made = images(cut(frame, box, (64, 64), size_hw=(64, 64), mode=mode))
        assert np.abs(made.astype(int) - expected).max() <= (0 if mode else 2)
        nothing = cut(without_tables(plain, 0xDB), box, (64, 64), size_hw=(64, 64), mode=mode)
        assert isinstance(nothing, tuple)
        assert "quantization" in nothing[1].lower()


def test_a_damaged_segment_is_an_error_and_says_what_libjpeg_says(cut: Cut) -> None:
    jpeg = bytearray(encode(noisy(64, 64, seed=10)))
    middle = len(jpeg) // 2
    jpeg[middle : middle + 2] = b"\xff\xd9"
    failed = cut(bytes(jpeg), [(0, 0, 64, 64)], (16, 16), size_hw=(64, 64))
    assert isinstance(failed, tuple)
    assert "premature end" in failed[1].lower()
