"""The fixtures of the critic's own tests."""

from tests.ldcq.critic.conftest import make_config, prior_target, start_prior, table

__all__ = ["make_config", "prior_target", "start_prior", "table"]
