"""Baseline JPEGs of any sampling, which Pillow can't write: a plain encoder, for tests and fuzzing.

Tables are those that Pillow writes at the quality; everything else is made here.
"""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

# Blocks of brightness in an MCU, across x down; one of each colour. All that libjpeg-turbo takes.
SAMPLINGS = {
    "4:4:4": (1, 1),
    "4:2:2": (2, 1),
    "4:4:0": (1, 2),
    "4:2:0": (2, 2),
    "4:1:1": (4, 1),
    "1x4": (1, 4),
    "4x2": (4, 2),
    "2x4": (2, 4),
    "3x1": (3, 1),
    "1x3": (1, 3),
    "3x2": (3, 2),
    "2x3": (2, 3),
}
_ZIGZAG = sorted(
    range(64),
    key=lambda k: (k // 8 + k % 8, k // 8 if (k // 8 + k % 8) % 2 else k % 8),
)
_DCT = np.array(
    [[np.cos((2 * x + 1) * u * np.pi / 16) / (8**0.5 if u == 0 else 2) for x in range(8)]
     for u in range(8)]
)  # fmt: skip


def write(pixels_HWC: np.ndarray, sampling: str, quality: int = 90) -> bytes:
    """uint8 [H, W, 3] -> a JPEG file of one of SAMPLINGS."""
    h, v = SAMPLINGS[sampling]
    height, width = pixels_HWC.shape[:2]
    ycc = np.array(Image.fromarray(pixels_HWC).convert("YCbCr"), np.float64) - 128
    room = ((0, -height % (8 * v)), (0, -width % (8 * h)), (0, 0))
    ycc = np.pad(ycc, room, mode="edge")
    tables, codes, quantizers = _tables(quality)
    planes = [_blocks(ycc[..., 0], quantizers[0])]
    for c in (1, 2):
        shared = ycc[..., c].reshape(ycc.shape[0] // v, v, ycc.shape[1] // h, h).mean((1, 3))
        planes.append(_blocks(shared, quantizers[1]))
    bits, before = [], [0, 0, 0]
    for row in range(ycc.shape[0] // (8 * v)):
        for column in range(ycc.shape[1] // (8 * h)):
            for c, (across, down) in enumerate(((h, v), (1, 1), (1, 1))):
                for y in range(row * down, (row + 1) * down):
                    for x in range(column * across, (column + 1) * across):
                        block = planes[c][y, x]
                        bits.append(_coded(block, before[c], codes[0, c > 0], codes[1, c > 0]))
                        before[c] = int(block[0])
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    scan = int(text, 2).to_bytes(len(text) // 8).replace(b"\xff", b"\xff\x00")
    frame = b"\x08" + height.to_bytes(2) + width.to_bytes(2)
    frame += bytes([3, 1, h << 4 | v, 0, 2, 0x11, 1, 3, 0x11, 1])
    start = bytes([3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0])
    return b"\xff\xd8" + tables + _segment(0xC0, frame) + _segment(0xDA, start) + scan + b"\xff\xd9"


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2) + body


def _tables(quality: int) -> tuple[bytes, dict[tuple[int, bool], dict[int, str]], list[np.ndarray]]:
    """Both kinds of tables as segments; codes by (0 DC or 1 AC, whether for colours) and symbol;
    quantizers in zigzag order."""
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
    data, at, kept = file.getvalue(), 2, b""
    codes, quantizers = {}, []
    while (marker := data[at + 1]) != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        body = data[at + 4 : end]
        if marker in (0xC4, 0xDB):
            kept += data[at:end]
        if marker == 0xDB:
            quantizers.append(np.frombuffer(body, np.uint8, 64, 1).astype(np.float64))
        elif marker == 0xC4:
            codes[body[0] >> 4, bool(body[0] & 15)] = _codes(body[1:17], body[17:])
        at = end
    return kept, codes, quantizers


def _codes(counts: Sequence[int], symbols: Sequence[int]) -> dict[int, str]:
    made, code, place = {}, 0, 0
    for length, count in enumerate(counts, 1):
        for symbol in symbols[place : place + count]:
            made[symbol] = f"{code:0{length}b}"
            code += 1
        place += count
        code <<= 1
    return made


def _blocks(plane: np.ndarray, quantizer: np.ndarray) -> np.ndarray:
    """Quantized coefficients [rows, columns, 64] in zigzag order."""
    rows, columns = plane.shape[0] // 8, plane.shape[1] // 8
    blocks = plane.reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3)
    coefficients = (_DCT @ blocks @ _DCT.T).reshape(rows, columns, 64)[..., _ZIGZAG]
    return np.rint(coefficients / quantizer).astype(int)


def _value(number: int) -> tuple[int, str]:
    """How many bits it takes, and these."""
    size = abs(number).bit_length()
    return size, f"{number if number > 0 else number + (1 << size) - 1:0{size}b}" if size else ""


def _coded(block: np.ndarray, before: int, dc: dict[int, str], ac: dict[int, str]) -> str:
    size, bits = _value(int(block[0]) - before)
    coded, last = [dc[size] + bits], 0
    for place in np.flatnonzero(block[1:]) + 1:
        run, last = int(place) - last - 1, int(place)
        coded += [ac[0xF0]] * (run // 16)
        size, bits = _value(int(block[place]))
        coded.append(ac[run % 16 << 4 | size] + bits)
    return "".join(coded) + (ac[0] if last < 63 else "")
