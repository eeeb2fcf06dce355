"""The rows of a feature bank in blocks, and a plan over any of them.

Block b of a bank is a fixed range of rows of one view, whoever computes it: so a bank's bytes do
not depend on how many processes shared the work, or on where one of them was killed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fasttail.plan import View
from fasttail.plan.contract import BatchPlan
from fasttail.plan.random import key
from fasttail.shards import Split


@dataclass(frozen=True)
class Rows:
    """Rows `start` .. `stop` - 1 of one view, counted over the samples of the split."""

    view: int
    start: int
    stop: int


@dataclass(frozen=True)
class Blocks:
    """N samples seen `views` times, `size` rows a block, none of two views."""

    samples: int
    views: int
    size: int

    @property
    def _a_view(self) -> int:
        return -(-self.samples // self.size)

    def __len__(self) -> int:
        return self.views * self._a_view

    def rows(self, block: int) -> Rows:
        """What a block holds; `IndexError` if there is no such block."""
        if not 0 <= block < len(self):
            raise IndexError(f"block {block} of {len(self)}")
        view, within = divmod(block, self._a_view)
        return Rows(view, within * self.size, min((within + 1) * self.size, self.samples))

    def share(self, done: set[int], rank: int, world_size: int) -> list[int]:
        """The blocks that a rank has to do, in a row, when some are done already."""
        left = [block for block in range(len(self)) if block not in done]
        first, last = (len(left) * r // world_size for r in (rank, rank + 1))
        return left[first:last]


class BlockPlan:
    """A plan whose step s is block `chosen[s]`. Each view has crops, flips and jitter of its own,
    drawn from `seed`; a fixed view is the same in all."""

    def __init__(
        self, split: Split, blocks: Blocks, chosen: Sequence[int], *, view: View, seed: int
    ) -> None:
        self._blocks, self._chosen = blocks, list(chosen)
        self._split, self._view, self._seed = split, view, int(key("views", seed))
        self.steps = len(self._chosen)
        self.max_batch = min(blocks.size, blocks.samples)

    @property
    def out_hw(self) -> tuple[int, int]:
        return self._view.out_hw

    def batch(self, step: int) -> BatchPlan:
        """The images of a block; `IndexError` if there is no such step."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of {self.steps} steps")
        rows = self._blocks.rows(self._chosen[step])
        part, count = slice(rows.start, rows.stop), rows.stop - rows.start
        draw = self._view.at(self._seed, rows.view)
        heights_B = np.array(self._split.heights_N[part])
        widths_B = np.array(self._split.widths_N[part])
        return BatchPlan(
            np.arange(rows.start, rows.stop, dtype=np.int64),
            np.array(self._split.labels_N[part], np.int64),
            draw.boxes(rows.start, heights_B, widths_B),
            draw.flips(rows.start, count),
            draw.jitters(rows.start, count),
        )
