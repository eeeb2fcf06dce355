"""Where and in what precision the arithmetic is done, and how processes talk to each other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fasttail.config import ComputeConfig
from fasttail.errors import UserError
from fasttail.world import World

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Compute:
    """A device and the type that images and activations have there."""

    device: torch.device
    dtype: torch.dtype
    channels_last: bool

    def place(self, model: nn.Module) -> None:
        """Moves a model to the device, its convolutions' weights channels-last if so configured."""
        model.to(self.device)
        if self.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def synchronize(self) -> None:
        """Returns when the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def autocast(self) -> torch.autocast:
        """Mixed precision around forward and loss; does nothing in float32."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32)

    def grad_scaler(self) -> torch.amp.GradScaler:
        """Scales the loss in fp16, whose gradients underflow; does nothing otherwise."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)


def pick(config: ComputeConfig, world: World) -> Compute:
    """The device of this process and its precision.

    Raises `UserError` if a GPU is asked for and there is none, or too few of them for the processes
    of this node.
    """
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise UserError(f"compute.device {name!r}: choose auto, cpu or cuda")
    if name == "cpu":
        device = torch.device("cpu")
    elif not torch.cuda.is_available():
        raise UserError(
            "compute.device is cuda, but torch finds no GPU: use --set compute.device=cpu"
        )
    elif world.local_rank >= torch.cuda.device_count():
        raise UserError(
            f"{world.local_size} processes on this node but {torch.cuda.device_count()} GPUs: "
            "start torchrun with --nproc-per-node of at most the number of GPUs"
        )
    else:
        device = torch.device("cuda", world.local_rank)
        torch.cuda.set_device(device)
        # Shapes are the same from step to step: each convolution's fastest way is found once.
        torch.backends.cudnn.benchmark = True
    return Compute(device, _amp_dtype(config.amp, device), config.channels_last)


def _amp_dtype(amp: str, device: torch.device) -> torch.dtype:
    if amp != "auto":
        if amp == "fp16" and device.type == "cpu":
            raise UserError("compute.amp fp16 needs a GPU: use bf16 or fp32 on a CPU")
        return AMP_DTYPES[amp]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    return torch.bfloat16 if _cpu_has_bf16() else torch.float32


def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 by itself: emulated it is slower than float32."""
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.12
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(
        capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "amx_tile", "bf16")
    )


@contextmanager
def out_of_memory_explained(batch_size: int, px: int, remedy: str) -> Iterator[None]:
    """Turns running out of memory, on the device or the host, into a `UserError` that says what was
    tried: `batch_size` images of `px` pixels a process; `remedy` is what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        host = isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)
        if not (host or isinstance(error, torch.OutOfMemoryError)):
            raise
        where = "this machine's memory" if host else "the GPU's memory"
        raise UserError(
            f"{batch_size} images of {px} px at a time a process do not fit into {where}: {remedy}"
        ) from None


@contextmanager
def process_group(world: World, device: torch.device) -> Iterator[None]:
    """Connects the processes of a torchrun job for the block; does nothing for a single one, and
    for processes that are connected already (a study holds on to them from run to run)."""
    if world.size == 1 or dist.is_initialized():
        yield
        return
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    if device.type == "cuda":
        dist.init_process_group("nccl", device_id=device)
    else:
        dist.init_process_group("gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def add_up(values: Tensor, world: World) -> Tensor:
    """The sum of `values` over all processes, in place."""
    if world.size > 1:
        dist.all_reduce(values)
    return values


def share_buffers(model: nn.Module, world: World) -> None:
    """Gives every process the main one's buffers: BatchNorm's running statistics are of each
    process's own images, and a model that all of them evaluate has to be one."""
    if world.size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def wait_for_all(world: World) -> None:
    """Returns when every process has come here."""
    if world.size > 1:
        dist.barrier()
