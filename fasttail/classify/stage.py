"""What stage 2 works on, and the features of it."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fasttail.classify import features
from fasttail.classify.extract import Work, extract
from fasttail.classify.features import Features
from fasttail.classify.head import Head
from fasttail.compute import Compute
from fasttail.config import TrainConfig
from fasttail.console import Reporter
from fasttail.engines.kept import Kept
from fasttail.models import Recognizer
from fasttail.plans import eval_view, normalisation, train_view
from fasttail.protocol import settle
from fasttail.rundir import Run
from fasttail.shards import Shards
from fasttail.world import World


@dataclass(frozen=True)
class Stage:
    """A run, its frozen model, its data, and where it computes."""

    run: Run
    model: Recognizer
    shards: Shards
    world: World
    compute: Compute
    reporter: Reporter
    engines: Kept

    @cached_property
    def config(self) -> TrainConfig:
        """The run's configuration as its protocol settles it."""
        return self.config_by(self.run.config.protocol)

    def config_by(self, protocol: str) -> TrainConfig:
        """The run's configuration as a protocol settles it."""
        config = self.run.config.model_copy(update={"protocol": protocol})
        return settle(config, self.shards.split_names)

    @cached_property
    def model_digest(self) -> str:
        """SHA-256 of the model's file, read once."""
        with self.run.model_path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @cached_property
    def _banks(self) -> dict[tuple[str, str], Features]:
        return {}

    def work(self, model: Recognizer) -> Work:
        """What runs a model over images needs."""
        return Work(
            model, self.shards, self.config, self.world, self.compute, self.reporter, self.engines
        )

    def bank(self, split_name: str, head: Head | None = None) -> Features:
        """The features of a split: from the run's directory if they are there for these very
        weights, shards and views, else extracted, all processes sharing the work. A head with a
        backbone of its own has features of its own."""
        own = head.backbone_digest() if head is not None else ""
        if (split_name, own) not in self._banks:
            self._banks[split_name, own] = self._load(split_name, head if own else None, own)
        return self._banks[split_name, own]

    def _load(self, split_name: str, head: Head | None, own: str) -> Features:
        classify, split = self.config.classify, self.shards.split(split_name)
        random_views = split_name == "train" and classify.views > 0
        views = classify.views if random_views else 1
        view = train_view(self.config.data) if random_views else eval_view(self.config.data)
        about: dict[str, Any] = {
            "model_sha256": self.model_digest,
            "shards_digest": self.shards.digest,
            "view": repr(view),
            "views": views,
            "normalisation": [list(of) for of in normalisation(self.config.data, self.shards)],
            "dtype": str(self.compute.dtype),
        }
        if random_views:
            about["seed"] = self.config.seed
        if own:
            about["backbone_sha256"] = own
        folder = self.run.features_dir if head is None else self.run.features_dir / head.name
        path = folder / (f"{split_name}-views.npy" if random_views else f"{split_name}.npy")
        model = self.model if head is None else head.model(self.model)
        extract(path, split, view, views=views, about=about, work=self.work(model))
        return features.load(
            path,
            split,
            views=views,
            device=self.compute.device,
            budget_bytes=classify.bank_device_mib << 20,
        )
