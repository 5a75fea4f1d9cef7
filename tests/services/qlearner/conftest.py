"""The fixtures of the critic's own tests."""

from tests.ldcq.critic.conftest import _one_thread, make_config, prior_target, start_prior, table

__all__ = ["_one_thread", "make_config", "prior_target", "start_prior", "table"]
