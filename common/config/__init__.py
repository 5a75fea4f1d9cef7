"""One frozen, validated configuration tree: YAML in, resolved YAML out. Imports nothing of the
project.
"""

from common.config.actor import ActorConfig, EvaluationConfig, MethodConfig, PlanningConfig
from common.config.critic import CriticConfig, ReplayConfig
from common.config.data import DataConfig, MazeName, PointMazeConfig, RandomWalkConfig
from common.config.loading import ConfigError, dump, load, override, resolve_variant
from common.config.prior import DiffusionConfig, GaussianConfig, PriorConfig, SamplingConfig
from common.config.schema import Config, TrainingConfig
from common.config.supervised import BcConfig, VaeConfig, WorldModelConfig

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
