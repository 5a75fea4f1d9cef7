"""One frozen, validated configuration tree: YAML in, resolved YAML out. Imports nothing of the
project.
"""

from common.config.loading import ConfigError, dump, load, override, resolve_variant
from common.config.schema import (
    ActorConfig,
    Config,
    CriticConfig,
    DataConfig,
    DiffusionConfig,
    EvaluationConfig,
    GaussianConfig,
    MethodConfig,
    PointMazeConfig,
    PriorConfig,
    ReplayConfig,
    SamplingConfig,
    TrainingConfig,
    VaeConfig,
)

__all__ = [
    "ActorConfig",
    "Config",
    "ConfigError",
    "CriticConfig",
    "DataConfig",
    "DiffusionConfig",
    "EvaluationConfig",
    "GaussianConfig",
    "MethodConfig",
    "PointMazeConfig",
    "PriorConfig",
    "ReplayConfig",
    "SamplingConfig",
    "TrainingConfig",
    "VaeConfig",
    "dump",
    "load",
    "override",
    "resolve_variant",
]
