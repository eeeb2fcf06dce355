"""One training step, the same for every engine and every training that sees images:

images, mixed if so drawn -> forward, loss, backward (in parts, where memory is short) -> update
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fasttail.compute import Compute, add_up
from fasttail.config import ComputeConfig, OptimConfig
from fasttail.errors import UserError
from fasttail.models import Recognizer
from fasttail.plan.contract import Plan
from fasttail.plan.mixing import Mix
from fasttail.plan.random import key
from fasttail.train import optimizers
from fasttail.train.losses import BatchLoss
from fasttail.train.mixed import Targets, mixed
from fasttail.train.norms import Norms
from fasttail.world import World

# Steps of `images_per_s`: until everything is compiled and tuned, and those that count.
WARM_UP, MEASURED = 3, 5


class Step:
    """Trains a model a batch at a time; holds the optimizer, the loss scaler, DDP and compilation.

    What has no gradients (`Recognizer.freeze_all_but`) is left alone. Nothing here waits for the
    device.
    """

    def __init__(
        self,
        model: Recognizer,
        *,
        optim: OptimConfig,
        config: ComputeConfig,
        compute: Compute,
        world: World,
        seed: int,
    ) -> None:
        if config.cuda_graphs:
            _check_graphs(optim, config, compute)
        if config.sync_batchnorm:
            if compute.device.type != "cuda":
                raise UserError("compute.sync_batchnorm needs GPUs: leave it out on the CPU")
            nn.SyncBatchNorm.convert_sync_batchnorm(model)
        compute.place(model)
        self._compute = compute
        self._seed = seed
        self._world = world
        self._parts = optim.accumulate
        self._dropout = _generator(compute.device)
        self._cuda_graphs = config.cuda_graphs
        trained = ((model.backbone, optim.backbone_lr_scale), (model.classifier, 1.0))
        self._optimizer = optimizers.make(trained, optim)
        self._scaler = compute.grad_scaler()
        self.norms = Norms(self._optimizer)
        self._network = _distributed(model, compute, world)
        self._forward = _compiled(self._network, config)

    def __call__(
        self,
        images_BCHW: Tensor,
        labels_B: Tensor,
        loss_of: BatchLoss,
        *,
        lr: float,
        step: int,
        mix: Mix | None = None,
        measure: bool = False,
    ) -> Tensor:
        """Updates the weights by one batch, as a loader gives it, mixed if there is a `mix`, with
        learning rate `lr`. `step` counts over the whole training. Returns the loss, a scalar that
        is still on the device; with several processes each returns its share, and the batch's is
        their mean. With `measure`, `norms` are of this step."""
        # Dropout's only state is the step: a resumed run drops what it would have dropped.
        self._dropout.manual_seed(int(key("step", self._seed, self._world.rank, step)))
        optimizers.set_lr(self._optimizer, lr)
        compute = self._compute
        # Before the batch is parted: an image's partner may be in another part.
        images_BCHW, targets = mixed(images_BCHW, labels_B, mix)
        weight = self._weight(loss_of, targets)
        total = torch.zeros((), device=compute.device)
        parts = list(zip(images_BCHW.chunk(self._parts), targets.chunk(self._parts), strict=True))
        for number, (part_BCHW, part_targets) in enumerate(parts, start=1):
            last = number == len(parts)
            with self._exchanging_gradients(last):
                if self._cuda_graphs:
                    torch.compiler.cudagraph_mark_step_begin()
                with compute.autocast():
                    losses_B = part_targets.losses(loss_of, self._forward(part_BCHW))
                loss = losses_B.sum() / weight
                self._scaler.scale(loss).backward()
            total += loss.detach()
        if measure:
            self._scaler.unscale_(self._optimizer)
            self.norms.before()
        self._scaler.step(self._optimizer)
        if measure:
            self.norms.after()
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        return total

    def images_per_s(self, plan: Plan, loss_of: BatchLoss) -> float:
        """How many images a second the network takes here, forward and backward, by a few batches
        of noise of a plan's size. Weights, gradients and BatchNorm's statistics stay as they are.
        With several processes all call it."""
        device, batch = self._compute.device, max(1, plan.max_batch // self._parts)
        noise_BCHW = torch.randn((batch, 3, *plan.out_hw), device=device, dtype=self._compute.dtype)
        noise_BCHW = noise_BCHW.contiguous(memory_format=torch.channels_last)
        labels_B = torch.zeros(batch, dtype=torch.int64, device=device)
        before = [buffer.clone() for buffer in self._network.buffers()]
        start_s = 0.0
        with self._exchanging_gradients(last=False):
            for number in range(WARM_UP + MEASURED):
                if number == WARM_UP:
                    self._compute.synchronize()
                    start_s = time.perf_counter()
                if self._cuda_graphs:
                    torch.compiler.cudagraph_mark_step_begin()
                with self._compute.autocast():
                    loss = loss_of(self._forward(noise_BCHW), labels_B)
                loss.backward()
                self._optimizer.zero_grad(set_to_none=True)
            self._compute.synchronize()
        for buffer, value in zip(self._network.buffers(), before, strict=True):
            buffer.copy_(value)
        return batch * MEASURED / (time.perf_counter() - start_s)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside the weights."""
        return {"optimizer": self._optimizer.state_dict(), "scaler": self._scaler.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` gave."""
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])

    def _weight(self, loss_of: BatchLoss, targets: Targets) -> Tensor:
        """The whole batch's weight by the number of processes, whose gradients are averaged. They
        have as many images, but of other classes."""
        weight = targets.weight(loss_of)
        if loss_of.weight_C is None:
            return weight
        return add_up(weight, self._world) / self._world.size

    def _exchanging_gradients(self, last: bool) -> Any:
        """Gradients are summed over the processes once a step, with the last part."""
        if last or not isinstance(self._network, DistributedDataParallel):
            return nullcontext()
        return self._network.no_sync()


def _generator(device: torch.device) -> torch.Generator:
    """What dropout draws from. `torch.manual_seed` would seed it too, and every other device's, at
    a fraction of a millisecond a call."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index]
    return torch.default_generator


def _distributed(model: nn.Module, compute: Compute, world: World) -> nn.Module:
    if world.size == 1:
        return model
    device_ids = [compute.device.index] if compute.device.type == "cuda" else None
    # BatchNorm's running statistics are shared once an epoch, by `share_buffers`: no forward waits
    # for them. torch 2.13 has renamed the option.
    known = signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {name: False, "gradient_as_bucket_view": True}
    return DistributedDataParallel(model, device_ids=device_ids, **options)


def _check_graphs(optim: OptimConfig, config: ComputeConfig, compute: Compute) -> None:
    """CUDA graphs are torch.compile's, which has one backward pass a step in them."""
    if not config.compile:
        raise UserError(
            "compute.cuda_graphs replays what compute.compile makes: give both, or neither"
        )
    if optim.accumulate > 1:
        raise UserError(
            "compute.cuda_graphs can't add gradients up over parts of a batch: leave it out, or "
            "optim.accumulate"
        )
    if compute.device.type != "cuda":
        raise UserError("compute.cuda_graphs needs a GPU: leave it out on the CPU")


def _compiled(network: nn.Module, config: ComputeConfig) -> Callable[..., Tensor]:
    """The forward pass as configured."""
    if not config.compile:
        return network
    return torch.compile(network, mode="reduce-overhead" if config.cuda_graphs else "default")
