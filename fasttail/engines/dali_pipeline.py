"""The graph that DALI runs for each batch.

bytes --+-- JPEG: decode the region --+-- pad, if the box leaves the image -- resize, mirror
        +-- raw: cut the region ------+
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


def build(shape: Shape, *, raw: bool, jpeg: bool, device: torch.device, threads: int) -> Pipeline:
    """A pipeline that takes what `dali.py` feeds. `raw`, `jpeg`: which of them the split has."""
    on_gpu = device.type == "cuda"

    def source(name: str, ndim: int, dtype: types.DALIDataType):
        return fn.external_source(
            name=name, device="cpu", ndim=ndim, dtype=dtype, no_copy=True, batch=True
        )

    def from_jpeg(data, start, extent):
        return fn.decoders.image_slice(
            data,
            start=start,
            shape=extent,
            axes=[0, 1],
            device="mixed" if on_gpu else "cpu",
            # As the other engines: no rotation by EXIF, smooth chroma on the GPU too.
            adjust_orientation=False,
            jpeg_fancy_upsampling=True,
            # More of it gains 2% and makes the slowest batches slower by far (DALI, PR 6366).
            hw_decoder_load=0.65,
            affine=False,
        )

    def from_raw(data, hw3, start, extent):
        stored = fn.reshape(data, shape=hw3, layout="HWC")
        cut = fn.slice(stored, start=start, shape=extent, axes=[0, 1])
        return cut.gpu() if on_gpu else cut

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
        if raw and jpeg:
            hw3 = source("hw3", 1, types.INT32)
            if source("raw", 0, types.BOOL):
                region = from_raw(data, hw3, start, extent)
            else:
                region = from_jpeg(data, start, extent)
        elif raw:
            region = from_raw(data, source("hw3", 1, types.INT32), start, extent)
        else:
            region = from_jpeg(data, start, extent)
        pad_start = source("pad_start", 1, types.INT32)
        pad_extent = source("pad_extent", 1, types.INT32)
        if source("padded", 0, types.BOOL):
            box = fn.slice(
                region,
                start=pad_start,
                shape=pad_extent,
                axes=[0, 1],
                out_of_bounds_policy="pad",
                fill_values=0,
            )
        else:
            box = region
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
