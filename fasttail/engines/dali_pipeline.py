"""The graphs that DALI runs for each batch.

whole    JPEG: decode --+
                        +-- cut the box, black outside -- resize, mirror
         raw pixels ----+

region   JPEG: decode what the box needs -- pad, if it leaves the image -- resize, mirror
         (raw pixels as before)
"""

# DALI's type stubs know neither its conditionals nor the names in nvidia.dali.types.
# pyright: reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
# pyright: reportArgumentType=false

from typing import NamedTuple

import torch
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline, pipeline_def


class Shape(NamedTuple):
    """What a pipeline is built for."""

    out_hw: tuple[int, int]
    max_batch: int


class Content(NamedTuple):
    """What a split has: raw images, JPEGs, and whether of these regions are decoded."""

    raw: bool
    jpeg: bool
    regions: bool


def build(shape: Shape, content: Content, *, device: torch.device, threads: int) -> Pipeline:
    """A pipeline that takes what `dali.py` feeds."""
    on_gpu = device.type == "cuda"
    decoding = {
        "device": "mixed" if on_gpu else "cpu",
        # As the other engines: no rotation by EXIF, smooth chroma on the GPU too.
        "adjust_orientation": False,
        "jpeg_fancy_upsampling": True,
        # More of it gains 2% and makes the slowest batches slower by far (DALI, PR 6366).
        "hw_decoder_load": 0.65,
        "affine": False,
    }

    def source(name: str, ndim: int, dtype: types.DALIDataType):
        return fn.external_source(
            name=name, device="cpu", ndim=ndim, dtype=dtype, no_copy=True, batch=True
        )

    def cut(image, start, extent):
        return fn.slice(
            image,
            start=start,
            shape=extent,
            axes=[0, 1],
            out_of_bounds_policy="pad",
            fill_values=0,
        )

    # DALI splits a batch where an `if` asks for each image, and merges it again.
    @pipeline_def(
        batch_size=shape.max_batch,
        num_threads=threads,
        device_id=(device.index or 0) if on_gpu else None,
        # Batches ahead are scheduled here, so DALI needs to prefetch none itself.
        prefetch_queue_depth=1,
        enable_conditionals=True,
    )
    def define():
        data = source("data", 1, types.UINT8)
        start, extent = source("start", 1, types.INT32), source("extent", 1, types.INT32)

        def from_raw(data, hw3):
            box = cut(fn.reshape(data, shape=hw3, layout="HWC"), start, extent)
            return box.gpu() if on_gpu else box

        def from_jpeg(data, region_start, region_extent, region_offset, leaves):
            if not content.regions:
                return cut(fn.decoders.image(data, **decoding), start, extent)
            region = fn.decoders.image_slice(
                data, start=region_start, shape=region_extent, axes=[0, 1], **decoding
            )
            if leaves:  # noqa: SIM108 - an `if` of DALI's
                box = cut(region, region_offset, extent)
            else:
                box = region
            return box

        regions = (
            (
                source("region_start", 1, types.INT32),
                source("region_extent", 1, types.INT32),
                source("region_offset", 1, types.INT32),
                source("leaves", 0, types.BOOL),
            )
            if content.regions
            else (None,) * 4
        )
        if content.raw and content.jpeg:
            hw3 = source("hw3", 1, types.INT32)
            if source("raw", 0, types.BOOL):  # noqa: SIM108
                box = from_raw(data, hw3)
            else:
                box = from_jpeg(data, *regions)
        elif content.raw:
            box = from_raw(data, source("hw3", 1, types.INT32))
        else:
            box = from_jpeg(data, *regions)
        # A negative width mirrors.
        return fn.resize(
            box,
            size=source("size", 1, types.FLOAT),
            interp_type=types.INTERP_LINEAR,
            antialias=True,
        )

    pipeline = define()
    pipeline.build()
    return pipeline
