"""One frozen, validated configuration tree: YAML in, resolved YAML out. Imports nothing of the
project.
"""

from ldcq.config.actor import (
    ActorConfig,
    EnvironmentConfig,
    EvaluationConfig,
    MethodConfig,
    PlanningConfig,
    SupportConfig,
)
from ldcq.config.critic import CriticConfig, ReplayConfig
from ldcq.config.data import DataConfig
from ldcq.config.generate import (
    Generate,
    MazeName,
    PointMazeConfig,
    PolicyConfig,
    RandomWalkConfig,
)
from ldcq.config.loading import (
    ConfigError,
    dump,
    load,
    override,
    resolve_variant,
    tasks,
    validated,
)
from ldcq.config.prior import PriorConfig, SamplingConfig
from ldcq.config.schema import Config, TrainingConfig
from ldcq.config.supervised import BcConfig, FramesConfig, VaeConfig, WorldModelConfig
from ldcq.config.task import TaskConfig

__all__ = [
    "ActorConfig",
    "BcConfig",
    "Config",
    "ConfigError",
    "CriticConfig",
    "DataConfig",
    "EnvironmentConfig",
    "EvaluationConfig",
    "FramesConfig",
    "Generate",
    "MazeName",
    "MethodConfig",
    "PlanningConfig",
    "PointMazeConfig",
    "PolicyConfig",
    "PriorConfig",
    "RandomWalkConfig",
    "ReplayConfig",
    "SamplingConfig",
    "SupportConfig",
    "TaskConfig",
    "TrainingConfig",
    "VaeConfig",
    "WorldModelConfig",
    "dump",
    "load",
    "override",
    "resolve_variant",
    "tasks",
    "validated",
]
