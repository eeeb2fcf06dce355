"""One image on its way in: checked, re-encoded only where it has to be, shrunk where asked for.

    a JPEG that every decoder reads   -> the file, byte for byte; progressive: as a baseline JPEG
    anything else of up to 64 px      -> its pixels
    anything else                     -> a JPEG, quality 95, 4:4:4

The stored form never depends on the image's class. `prepare` is a pure function, so that any
process may do it. Source of the colour rules: Pillow's `convert("RGB")`, by which the published
pipelines read (alpha is dropped, not blended).
"""

import io
import re
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from fasttail import kernels
from fasttail.shards import jpeg
from fasttail.shards.columns import JPG, RAW
from fasttail.shards.jpeg import BadImage

# What Pillow may try. Left out on purpose: EPS (runs Ghostscript), WMF, and other rare parsers.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000")
MAX_SIDE = 65500  # of a JPEG; the .beton header has 16 bits
MAX_SCANS = 200  # of a JPEG that Pillow is to decode; the kernel has the same limit
BIG_PIXELS = 16_000_000  # only one process at a time decodes an image of more than this
BASELINE = "JPEG, progressive, made baseline"
# What EXIF says to turn is counted under its kind and one of these.
IGNORED, APPLIED = ", EXIF rotation ignored", ", EXIF rotation applied"


@dataclass(frozen=True)
class Rule:
    """What is asked of every image: see `ConvertConfig`, whose words these are. Without the kernel
    there is no seek index, and progressive JPEGs stay as they are."""

    check: str
    seek_spacing: int
    exif: str
    progressive: str
    max_side: int | None
    jpeg_quality: int
    raw_below_px: int
    max_pixels: int


@dataclass(frozen=True, slots=True)
class Stored:
    """An image as it is stored. `kind`: "as is", "raw", `BASELINE`, or what it was when it is
    re-encoded. `damage`: what was wrong with a file that could still be decoded. `seek`: its seek
    index. `turned`: EXIF says to turn it."""

    mode: int
    height: int
    width: int
    data: bytes
    kind: str
    damage: str = ""
    seek: bytes = b""
    turned: bool = False


Big = Callable[[int], AbstractContextManager[None]]


def prepare(source: bytes | np.ndarray, rule: Rule, *, decode: bool, big: Big) -> Stored:
    """The stored form of an image: a file's bytes, or pixels uint8 [H, W, 3].

    `decode`: it will be decoded, so it is checked for damage, whatever the rule says. `big(pixels)`
    is held while an image of that many pixels is decoded. Raises `BadImage`.
    """
    stored = _prepare(source, rule, decode or rule.check == "decode", big)
    if rule.seek_spacing and stored.mode == JPG and stored.kind != "as is":
        stored = replace(stored, seek=check_jpeg(stored.data, rule.seek_spacing))
    return stored


def _prepare(source: bytes | np.ndarray, rule: Rule, check: bool, big: Big) -> Stored:
    if isinstance(source, np.ndarray):
        _check_size(source.shape[0], source.shape[1], rule)
        return _encode(Image.fromarray(source), rule, "pixels")
    if not source:
        raise BadImage("an empty file")
    if not jpeg.is_jpeg(source):
        return _convert(source, rule, big)
    try:
        header = jpeg.read_header(source)
    except BadImage as error:
        return _rescue(source, rule, big, str(error))
    _check_size(header.height, header.width, rule)
    shrinks = rule.max_side is not None and max(header.height, header.width) > rule.max_side
    turned = jpeg.orientation(source, header.exif) != 1
    if not header.plain or shrinks or (turned and rule.exif == "apply"):
        return _convert(source, rule, big)
    if not jpeg.has_end(source):
        raise BadImage(f"JPEG ends at byte {len(source)} without an end marker: truncated")
    data, seek = source, b""
    try:
        with big(header.height * header.width):
            if header.progressive and rule.progressive == "baseline" and kernels.available():
                data = _to_baseline(source)
            if check and data is source:
                seek = check_jpeg(source, rule.seek_spacing)
    except BadImage as error:
        return _rescue(source, rule, big, str(error))
    if check:
        try:
            _open(data)
        except BadImage as error:
            # Not as it is: the engine `reference`, and others' programs, read files by Pillow.
            pixels = pixels_of(JPG, header.height, header.width, data)
            stored = _encode(Image.fromarray(pixels), rule, "JPEG, damaged")
            return replace(stored, damage=str(error), turned=turned)
    kind = "as is" if data is source else BASELINE
    return Stored(JPG, header.height, header.width, data, kind, seek=seek, turned=turned)


def _to_baseline(source: bytes) -> bytes:
    """A progressive JPEG as a baseline one of the same pixels, or itself where there is none: every
    scan is read on the way, so damage is found. Raises `BadImage`."""
    try:
        return kernels.jpeg_to_baseline(source) or source
    except ValueError as error:
        raise BadImage(str(error)) from None


def _rescue(source: bytes, rule: Rule, big: Big, wrong: str) -> Stored:
    """A damaged JPEG that Pillow still decodes, as it does for everybody who trains on it, is
    stored as what Pillow makes of it: no engine then stumbles over the damage."""
    try:
        stored = _convert(source, rule, big)
    except BadImage:
        raise BadImage(wrong) from None
    return replace(stored, kind="JPEG, damaged", damage=wrong)


def ppm_header(data: bytes) -> tuple[int, int, int] | None:
    """(bytes of header, height, width) of a file as our tars hold raw pixels in, or None."""
    found = re.match(rb"P6\n(\d{1,5}) (\d{1,5})\n255\n", data)
    if found is None:
        return None
    height, width = int(found[2]), int(found[1])
    if not height or not width or len(data) != found.end() + height * width * 3:
        return None
    return found.end(), height, width


def check_jpeg(data: bytes, seek_spacing: int) -> bytes:
    """Reads all of a JPEG's entropy-coded data, and returns its seek index, a point every so many
    bytes (0: none is made). Raises `BadImage` if anything is wrong with it.

    By the engines' own decoder where it is built, which is as strict as they are: a warning counts.
    Otherwise by Pillow, which lets some damage pass and makes no index: at an eighth of the size,
    where that is possible, for every bit still goes through the entropy decoder.
    """
    if not kernels.available():
        image = _open(data)
        image.draft("L", (max(1, image.width // 8), max(1, image.height // 8)))
        _load(image)
        return b""
    if not seek_spacing:
        if wrong := kernels.jpeg_check(data):
            raise BadImage(wrong)
        return b""
    try:
        return kernels.jpeg_seek(data, seek_spacing).tobytes()
    except ValueError as error:
        raise BadImage(str(error)) from None


def pixels_of(mode: int, height: int, width: int, data: bytes) -> np.ndarray:
    """The pixels uint8 [H, W, 3] of a stored image, as the engines decode it: libjpeg's
    slow-integer DCT, smooth upsampling of the colours.

    Raises `BadImage`.
    """
    if mode == RAW:
        return np.frombuffer(data, np.uint8).reshape(height, width, 3)
    if kernels.available():
        try:
            pixels = kernels.jpeg_decode(data)
        except ValueError as error:
            raise BadImage(str(error)) from None
    else:
        image = _open(data)
        _load(image)
        pixels = np.asarray(image.convert("RGB"))
    if pixels.shape != (height, width, 3):
        raise BadImage(f"decodes to {pixels.shape[1]}x{pixels.shape[0]}, not {width}x{height}")
    return pixels


def _check_size(height: int, width: int, rule: Rule) -> None:
    if height * width > rule.max_pixels:
        raise BadImage(
            f"{width}x{height} is more than {rule.max_pixels / 1e6:g} million pixels (max_pixels)"
        )
    if max(height, width) > MAX_SIDE:
        raise BadImage(f"{width}x{height}: a side of more than {MAX_SIDE} pixels")
    if not height or not width:
        raise BadImage(f"{width}x{height}: no pixels")


def _convert(source: bytes, rule: Rule, big: Big) -> Stored:
    if jpeg.is_jpeg(source) and jpeg.scans(source) > MAX_SCANS:
        raise BadImage(f"more than {MAX_SCANS} scans")
    image = _open(source)
    kind = f"{image.format} {image.mode}"
    _check_size(image.height, image.width, rule)
    with big(image.height * image.width):
        turn = _TURNS.get(_orientation(image))
        _load(image)
        image = _to_rgb(image)
        if turn is not None and rule.exif == "apply":
            image = image.transpose(turn)
        return replace(_encode(image, rule, kind), turned=turn is not None)


def _encode(image: Image.Image, rule: Rule, kind: str) -> Stored:
    height, width = shrunk_size(image.height, image.width, rule.max_side)
    if (height, width) != (image.height, image.width):
        image = Image.fromarray(shrink_area(np.asarray(image), height, width))
    if max(height, width) <= rule.raw_below_px:
        return Stored(RAW, height, width, image.tobytes(), "raw")
    out = io.BytesIO()
    image.save(out, "JPEG", quality=rule.jpeg_quality, subsampling=0)
    return Stored(JPG, height, width, out.getvalue(), kind)


def _open(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(data), formats=_FORMATS)
    # Pillow's parsers of hostile files raise whatever Python raises.
    except Exception as error:  # noqa: BLE001
        raise BadImage(f"no image: {_reason(error)}") from None


def _load(image: Image.Image) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
    except Exception as error:  # noqa: BLE001 - as above
        raise BadImage(f"does not decode: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "its content is of no format that is read"
    if isinstance(error, MemoryError):
        return "it takes more memory than a process may use"
    return f"{error}" or type(error).__name__


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: Image.Image) -> int:
    """EXIF orientation that is still to be applied. Pillow by itself turns TIFF files."""
    if image.format == "TIFF":
        return 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = image.getexif().get(0x0112, 1)
    except Exception:  # noqa: BLE001 - EXIF that makes no sense is no EXIF
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB. 16-bit samples lose their lower byte; Pillow by itself would clip them."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        grey_HW = np.asarray(image).astype(np.int64)
        if grey_HW.min() < 0 or grey_HW.max() > 0xFFFF:
            raise BadImage(f"pixels of {grey_HW.min()}..{grey_HW.max()}: no 16-bit image")
        return Image.fromarray((grey_HW >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise BadImage("floating-point pixels: what is white is not defined")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return image.convert("RGB")
    except (ValueError, OSError) as error:
        raise BadImage(f"{image.mode} pixels: {error}") from None


def shrunk_size(height: int, width: int, max_side: int | None) -> tuple[int, int]:
    """The size with its longer side at most `max_side`, proportions kept, at least 1."""
    longer = max(height, width)
    if max_side is None or longer <= max_side:
        return height, width
    return (
        max(1, (height * max_side + longer // 2) // longer),
        max(1, (width * max_side + longer // 2) // longer),
    )


def shrink_area(image_HWC: np.ndarray, height: int, width: int) -> np.ndarray:
    """Shrinks uint8 [H, W, C] so that every pixel is the mean of the area it covers.

    Source pixels that are covered in part count in part (OpenCV's INTER_AREA does the same;
    Pillow's BOX takes each whole or not at all, which shows at factors below 2).
    """
    rows = _area_axis(image_HWC, height)
    both = _area_axis(rows.transpose(1, 0, 2), width).transpose(1, 0, 2)
    return np.clip(np.rint(both), 0, 255).astype(np.uint8)


def _area_axis(image: np.ndarray, out: int) -> np.ndarray:
    """float32 mean over equal stretches of the first axis."""
    n = image.shape[0]
    if n == out:
        return image.astype(np.float32)
    step = n / out
    edges = np.minimum(np.arange(out + 1) * step, n)
    first = np.minimum(np.floor(edges[:-1]).astype(np.int64), n - 1)
    total = np.zeros((out, *image.shape[1:]), np.float32)
    for k in range(int(np.ceil(step)) + 1):
        row = first + k
        covered = np.minimum(edges[1:], row + 1) - np.maximum(edges[:-1], row)
        weight = (np.maximum(covered, 0) / step).astype(np.float32)
        total += weight[:, None, None] * image[np.minimum(row, n - 1)]
    return total
