"""Every default of fasttail.

    section.py     what a section is: read-only, without unknown keys or wrong types
    data_sets.py   `fasttail convert`, and stores
    training.py    `fasttail train`

Files that change the defaults are read in `fasttail.recipes`.
"""

from fasttail.config.data_sets import STORES, ConvertConfig, StoresConfig
from fasttail.config.section import Bytes, Section
from fasttail.config.training import (
    DEFAULTS,
    ClassifyConfig,
    ComputeConfig,
    DataConfig,
    LossConfig,
    MixConfig,
    ModelConfig,
    NcmConfig,
    OptimConfig,
    ShotsConfig,
    TauConfig,
    TrainConfig,
)

__all__ = [
    "DEFAULTS",
    "STORES",
    "Bytes",
    "ClassifyConfig",
    "ComputeConfig",
    "ConvertConfig",
    "DataConfig",
    "LossConfig",
    "MixConfig",
    "ModelConfig",
    "NcmConfig",
    "OptimConfig",
    "Section",
    "ShotsConfig",
    "StoresConfig",
    "TauConfig",
    "TrainConfig",
]
