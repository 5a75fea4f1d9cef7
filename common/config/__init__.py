"""One frozen, validated configuration tree: YAML in, resolved YAML out. Imports nothing of the
project.
"""

from common.config.loading import ConfigError, dump, load, override, resolve_variant
from common.config.schema import (
    ActorConfig,
    BcConfig,
    Config,
    CriticConfig,
    DataConfig,
    DiffusionConfig,
    EvaluationConfig,
    GaussianConfig,
    MazeName,
    MethodConfig,
    PlanningConfig,
    PointMazeConfig,
    PriorConfig,
    RandomWalkConfig,
    ReplayConfig,
    SamplingConfig,
    TrainingConfig,
    VaeConfig,
    WorldModelConfig,
)

__all__ = [
    "ActorConfig",
    "BcConfig",
    "Config",
    "ConfigError",
    "CriticConfig",
    "DataConfig",
    "DiffusionConfig",
    "EvaluationConfig",
    "GaussianConfig",
    "MazeName",
    "MethodConfig",
    "PlanningConfig",
    "PointMazeConfig",
    "PriorConfig",
    "RandomWalkConfig",
    "ReplayConfig",
    "SamplingConfig",
    "TrainingConfig",
    "VaeConfig",
    "WorldModelConfig",
    "dump",
    "load",
    "override",
    "resolve_variant",
]
