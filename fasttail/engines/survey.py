"""`fasttail engines`: which engines work here, shown by decoding one image with each."""

import inspect
from dataclasses import asdict, dataclass
from io import BytesIO

import numpy as np
import torch
from PIL import Image

from fasttail import engines
from fasttail.console import Reporter
from fasttail.engines import auto
from fasttail.engines.source import JPEG, InMemory
from fasttail.errors import NotHere, UserError
from fasttail.plan import EvalEpoch, View

SIDE = 64  # pixels
ALLOWED = 1.5  # mean difference from the reference's pixels, of 255


@dataclass(frozen=True)
class Found:
    """An engine and whether it works; `note` says with what, or why not."""

    engine: str
    works: bool
    installed: bool
    note: str


def _one_image() -> InMemory:
    """A JPEG of a smooth colour gradient."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] * (255 / SIDE)
    pixels_HWC = np.stack([y, x, 255 - (x + y) / 2], axis=2).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(pixels_HWC).save(file, "JPEG", quality=95)
    return InMemory(["the test image"], [file.getvalue()], [JPEG], [(SIDE, SIDE)])


def _decoded(name: str, source: InMemory, device: torch.device) -> tuple[torch.Tensor, str]:
    """The image's pixels by an engine, and what the engine is."""
    engine = engines.make(name, source, device=device, threads=1)
    try:
        (batch,) = engine.run(EvalEpoch(source, view=View.whole(SIDE), batch_size=1))
        return batch.images_BHWC.cpu().float(), _note(engine)
    finally:
        engine.close()


def _note(engine: engines.Engine) -> str:
    """What an engine decodes with; of one that was added here, what its own first line says."""
    on = "the GPU" if engine.device.type == "cuda" else "the CPU"
    notes = {
        "ffcv": "fasttail's kernel, in threads",
        "dali": f"NVIDIA DALI on {on}{_by_kind(engine)}",
        "dali-region": f"NVIDIA DALI on {on}, what a box needs of an image",
        "resident": "a decoded split in memory, for images of one size",
        "reference": "Pillow, one image after the other: slow",
        "synthetic": "random images, to measure by",
    }
    own = inspect.getdoc(type(engine)) or type(engine).__name__
    return notes.get(engine.name, own.splitlines()[0])


def _by_kind(engine: engines.Engine) -> str:
    """Which JPEGs what decodes, where DALI has a choice."""
    if engine.name != "dali" or engine.device.type != "cuda":
        return ""
    from fasttail.engines.dali_backend import decoded_by

    kinds: dict[str, list[str]] = {}
    for kind, by in decoded_by(engine.device).items():
        kinds.setdefault(by, []).append(kind)
    return "".join(f"; {by}: {', '.join(kinds[by])}" for by in kinds)


def _reason(error: Exception) -> str:
    """Its first line, after its kind where it is none of those that speak for themselves."""
    first = str(error).splitlines()[0] if str(error) else ""
    if first and isinstance(error, (UserError, ImportError, OSError, RuntimeError)):
        return first
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def survey(device: torch.device) -> list[Found]:
    """Decodes an image with every engine. None is left out, and none stops the others."""
    source = _one_image()
    expected, _ = _decoded("reference", source, torch.device("cpu"))
    found = []
    for name in engines.ENGINES:
        try:
            images, note = _decoded(name, source, device)
        except NotHere as error:
            found.append(Found(name, works=False, installed=False, note=str(error)))
            continue
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are tried
            found.append(Found(name, works=False, installed=True, note=_reason(error)))
            continue
        off = float((images - expected).abs().mean())
        if name != "synthetic" and off > ALLOWED:
            note = f"its pixels are off by {off:.1f} of 255 in the mean"
            found.append(Found(name, works=False, installed=True, note=note))
        else:
            found.append(Found(name, works=True, installed=True, note=note))
    return found


def show(*, as_json: bool, reporter: Reporter | None = None) -> bool:
    """Prints the survey of this machine; whether every engine that is installed works."""
    reporter = reporter or Reporter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = survey(device)
    decoder = auto.decoder(device)[0]
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    if as_json:
        reporter.json({"gpu": gpu, "auto": decoder, "engines": [asdict(one) for one in found]})
    else:
        state = {(True, True): "works", (False, False): "not installed", (False, True): "FAILS"}
        reporter.facts(
            {one.engine: f"{state[one.works, one.installed]}: {one.note}" for one in found},
            f"engines on {gpu or 'the CPU'}; auto takes {decoder} for photographs",
        )
        for one in found:
            if one.installed and not one.works:  # on a line of its own, to be copied
                reporter.say(f"{one.engine}: {one.note}")
    return all(one.works for one in found if one.installed)
