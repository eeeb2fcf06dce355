"""The defaults of a run: images, network, stage 1, stage 2 and how results are read."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fasttail.config.section import Positive, Power, Section, Unit


class DataConfig(Section):
    """What an image becomes, and what decodes it."""

    px: int = Field(
        default=224,
        ge=8,
        le=65500,
        description="height and width of the network's input, in pixels",
    )
    train_view: Literal["random-resized-crop", "random-crop", "center", "whole"] = Field(
        default="random-resized-crop", description="crop of training images in stage 1"
    )
    eval_view: Literal["center", "whole"] = Field(
        default="center", description="crop for evaluation and for stage 2's features"
    )
    resize_px: int = Field(default=256, ge=8, description="shorter side before the centre crop")
    mean: tuple[Unit, Unit, Unit] | None = Field(
        default=None, description="mean of each color channel, in 0..1; unset: the data set's"
    )
    std: tuple[Positive, Positive, Positive] | None = Field(
        default=None, description="standard deviation of each color channel; unset: the data set's"
    )
    scale: tuple[Unit, Unit] = Field(
        default=(0.08, 1.0), description="random-resized-crop: share of the image's area"
    )
    ratio: tuple[Positive, Positive] = Field(
        default=(3 / 4, 4 / 3), description="random-resized-crop: width to height"
    )
    padding: int = Field(default=4, ge=0, description="padding of random-crop, in pixels")
    flip_p: Unit = Field(default=0.5, description="probability of a horizontal flip")
    jitter: tuple[Unit, Unit, Unit, Annotated[float, Field(ge=0, le=0.5)]] | None = Field(
        default=None, description="color jitter: brightness, contrast, saturation, hue"
    )
    engine: str = Field(
        default="auto",
        description="auto, ffcv, dali, dali-region, resident, reference or synthetic",
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="decoding threads per process; 0: its share of the cores",
    )
    eval_batch_size: int = Field(
        default=256, ge=1, description="images per process and step in evaluation"
    )


class MixConfig(Section):
    """Images of stage 1 that are mixed of two: mixup and CutMix."""

    mixup_alpha: Unit = Field(
        default=0.0, description="mixup: weights are drawn from Beta(alpha, alpha); 0: no mixup"
    )
    cutmix_alpha: Unit = Field(
        default=0.0,
        description="CutMix: alpha of its Beta; with both, an image gets one or the other",
    )
    p: Unit = Field(default=1.0, description="fraction of the images that are mixed")


class ModelConfig(Section):
    """The network."""

    backbone: str = Field(
        default="resnet50", description="resnet50, resnext50, ..., timm:NAME or torchvision:NAME"
    )
    classifier: Literal["linear", "cosine"] | None = Field(
        default=None, description="unset: cosine for the loss ldam-drw, else linear"
    )
    cosine_scale: Positive = Field(
        default=30.0, description="scale of the cosine classifier's logits"
    )
    trained: Literal["all", "last-block", "classifier"] = Field(
        default="all",
        description="parameters trained in stage 1; the rest stays as initialized by --init",
    )
    batchnorm: Literal["eval", "train"] = Field(
        default="eval",
        description="mode of frozen BatchNorm layers in stage 1; train: update their statistics",
    )
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="decay of an exponential moving average of stage 1's weights, which is then "
        "evaluated and kept; 0: no average",
    )


class OptimConfig(Section):
    """One training: its optimizer, and how its learning rate goes.

    `lr` is meant for `lr_batch_size` images a step; another `batch_size` scales it in proportion
    (Goyal et al. 2017, the linear rule).
    """

    epochs: int = Field(default=90, ge=1, description="number of epochs")
    batch_size: int = Field(default=512, ge=1, description="images per step, over all processes")
    accumulate: int = Field(
        default=1,
        ge=1,
        le=65536,
        description="gradient accumulation: parts that a batch is computed in, to save memory",
    )
    lr: Positive = Field(default=0.2, description="learning rate for lr_batch_size images per step")
    lr_batch_size: int = Field(
        default=512, ge=1, description="another batch_size scales lr in proportion"
    )
    backbone_lr_scale: Positive = Field(
        default=1.0, description="the backbone's learning rate relative to `lr`"
    )
    optimizer: Literal["sgd", "adamw"] = Field(
        default="sgd", description="optimizer; adamw: no weight decay of norms and biases"
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9, description="momentum of SGD, beta 1 of AdamW"
    )
    beta2: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.999, description="beta 2 of AdamW")
    nesterov: bool = Field(default=False, description="SGD: use Nesterov momentum")
    weight_decay: float = Field(
        default=5e-4,
        ge=0,
        description="weight decay; of SGD as L2 regularization, of AdamW decoupled",
    )
    schedule: Literal["cosine", "steps"] = Field(
        default="cosine", description="learning rate schedule"
    )
    steps: tuple[Unit, ...] = Field(
        default=(),
        description="schedule steps: fractions of the epochs after which the rate is multiplied "
        "by gamma",
    )
    gamma: Positive = Field(default=0.1, description="schedule steps: factor")
    lr_per: Literal["step", "epoch", "epoch-start"] = Field(
        default="step",
        description="the cosine's steps; epoch: one rate an epoch, that of its end, as the "
        "authors' code has it since torch 1.1; epoch-start: of its beginning, as before",
    )
    warmup_epochs: float = Field(default=0, ge=0, description="epochs of linear warm-up")
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="label smoothing: fraction of the target spread over all classes"
    )

    @property
    def scaled_lr(self) -> float:
        """The learning rate for `batch_size` by the linear rule."""
        return self.lr * self.batch_size / self.lr_batch_size


class LossConfig(Section):
    """What stage 1 minimises: the paper's is cross-entropy, the others are to compare with."""

    name: str = Field(
        default="cross-entropy",
        description="cross-entropy, weighted, balanced-softmax, logit-adjustment or ldam-drw",
    )
    weights: Literal["inverse", "effective"] = Field(
        default="inverse",
        description="weighted: by 1 / n of a class's n images, or by their effective number",
    )
    weights_beta: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9999, description="weighted: beta of the effective number of images"
    )
    adjustment_tau: Power = Field(
        default=1.0, description="logit-adjustment: weight of the log prior (tau)"
    )
    max_margin: Positive = Field(default=0.5, description="ldam-drw: margin of the smallest class")
    drw_from: Unit = Field(
        default=0.8,
        description="ldam-drw: fraction of the epochs after which classes are re-weighted",
    )
    drw_beta: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9999, description="ldam-drw: beta of the effective number of images"
    )


class ComputeConfig(Section):
    """How the arithmetic is done."""

    device: str = Field(default="auto", description="auto, cpu, cuda")
    amp: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        default="auto",
        description="auto: bf16 where the device has it, else fp16 with a loss scaler",
    )
    channels_last: bool = Field(default=True, description="memory format of network and images")
    compile: bool = Field(default=False, description="torch.compile the network")
    cuda_graphs: bool = Field(
        default=False, description="with compile: replay its kernels as CUDA graphs; needs a GPU"
    )
    sync_batchnorm: bool = Field(
        default=False, description="BatchNorm over the whole batch, not each GPU's share"
    )
    log_every: int = Field(default=50, ge=1, description="steps between two lines of log.jsonl")
    checkpoint_every_min: Positive = Field(default=10.0, description="minutes between checkpoints")
    keep_every: int = Field(
        default=0, ge=0, description="keep the weights of every N-th epoch; 0: of none"
    )
    tensorboard: bool = Field(default=True, description="write TensorBoard events")
    report: bool = Field(default=True, description="write report.html after each stage")


class TauConfig(Section):
    """tau-normalisation: w_j / |w_j|^tau, section 4 of the paper, equation 3."""

    grid_max: Power = Field(default=2.0, description="largest tau of the grid")
    grid_step: float = Field(default=0.1, ge=0.001, description="step of the grid")
    bias: bool = Field(default=False, description="keep the classifier's bias; the authors drop it")
    choose_on: Literal["auto", "val", "test", "train", "fixed"] = Field(
        default="auto",
        description="split that tau is chosen on; auto: val if there is one, else fixed",
    )
    choose_by: Literal["macro", "micro"] = Field(
        default="macro",
        description="accuracy by which tau is chosen: macro (over classes) or micro (over images)",
    )
    fixed: Power = Field(default=1.0, description="tau for choose_on: fixed")


class NcmConfig(Section):
    """Nearest class mean: how features are transformed, and what nearest means.

    un: as they are; l2n: each scaled to unit length; cl2n: the mean over train taken off, then l2n.
    l2 is the authors' default. dot: the product with means that are not scaled to unit length, by
    the number of dimensions: what their code calls cosine (`--dist_type cos`).
    """

    transform: Literal["un", "l2n", "cl2n"] = Field(
        default="cl2n",
        description="of features: un: none; l2n: scale to unit length; cl2n: center, then scale",
    )
    metric: Literal["l2", "cosine", "dot"] = Field(
        default="cosine", description="distance of features and class means"
    )


class ClassifyConfig(Section):
    """Stage 2: how heads are trained on the frozen backbone, from its features or from images."""

    sampler: str = Field(default="class", description="sampler of crt and lws, as for stage 1")
    features: Literal["bank", "images"] = Field(
        default="bank",
        description="bank: train on stored features; images: on augmented images in each epoch",
    )
    views: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="augmented views per training image in the feature bank; 0: the evaluation "
        "crop",
    )
    bank_device_mib: int = Field(
        default=4096,
        ge=0,
        description="MiB of features kept on the GPU; a larger bank is read in batches",
    )
    batchnorm: Literal["eval", "train"] = Field(
        default="eval",
        description="mode of the frozen backbone's BatchNorm, for features: images; train: "
        "update its statistics",
    )
    order: Literal["as-stage-1", "official"] = Field(
        default="as-stage-1",
        description="order of the draws: as in stage 1, or as in the authors' code",
    )
    keep: Literal["last", "best"] = Field(
        default="last", description="epoch whose head is kept; best: the best on val"
    )
    crt: OptimConfig = Field(
        default=OptimConfig(epochs=10),
        description="training of crt, balanced-softmax and crt-last-block",
    )
    lws: OptimConfig = Field(default=OptimConfig(epochs=5), description="training of lws")
    block_lr_scale: Positive = Field(
        default=0.1, description="crt-last-block: the block's learning rate relative to the head's"
    )
    adjust_tau: Power = Field(
        default=1.0, description="logit-adjust: weight of the log prior (tau)"
    )
    tau: TauConfig = TauConfig()
    ncm: NcmConfig = NcmConfig()


class ShotsConfig(Section):
    """Shot groups by a class's training images: many > many_above, few < few_below, else medium."""

    many_above: int = Field(
        default=100, ge=0, description="classes with more training images are many-shot"
    )
    few_below: int = Field(
        default=20, ge=0, description="classes with fewer training images are few-shot"
    )
    empty: Literal["none", "zero"] = Field(
        default="none",
        description="accuracy of a group without classes; zero: as in the authors' code",
    )

    @model_validator(mode="after")
    def _in_order(self) -> "ShotsConfig":
        if self.few_below > self.many_above + 1:
            raise ValueError(
                f"few_below {self.few_below} is above many_above {self.many_above}: "
                "a class would be in both groups"
            )
        return self


class TrainConfig(Section):
    """A whole run: stage 1, stage 2 and how results are read."""

    sampler: str = Field(
        default="instance", description="instance, class, sqrt, progressive or power:Q"
    )
    protocol: Literal["clean", "official"] = Field(
        default="clean", description="official: every detail as in the authors' code"
    )
    draws: Literal["quota", "iid", "official"] = Field(
        default="quota",
        description="quota: exact numbers of draws per class; iid: independent draws, with "
        "replacement; official: as the authors' code draws for the sampler",
    )
    seed: int = Field(default=0, ge=0, description="random seed")
    validate_every: int = Field(default=1, ge=1, description="epochs between validations")
    keep: Literal["last", "best"] = Field(
        default="last",
        description="epoch of stage 1 whose model is kept; best: the best on val",
    )
    data: DataConfig = DataConfig()
    mix: MixConfig = MixConfig()
    model: ModelConfig = ModelConfig()
    optim: OptimConfig = OptimConfig()
    loss: LossConfig = LossConfig()
    compute: ComputeConfig = ComputeConfig()
    classify: ClassifyConfig = ClassifyConfig()
    shots: ShotsConfig = ShotsConfig()
    own: dict[str, dict[str, bool | int | float | str]] = Field(
        default={},
        description="settings of extensions, by name: own.NAME.key",
    )

    @property
    def cosine_scale(self) -> float | None:
        """The scale of a cosine classifier; None where the classifier is linear."""
        kind = self.model.classifier or ("cosine" if self.loss.name == "ldam-drw" else "linear")
        return self.model.cosine_scale if kind == "cosine" else None


DEFAULTS = TrainConfig()
