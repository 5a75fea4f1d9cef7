"""The critic is worth its training: on a task where the best latent is obviously better, the policy
`ldcq` beats one sample of the same prior, from data to episodes, in this process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.data import ensure_dataset, load_episodes, load_task
from ldcq.config import load
from ldcq.critic.algorithm1 import LDCQ
from ldcq.critic.candidates import OnlineCandidates
from ldcq.critic.replay import PrioritisedReplay
from ldcq.critic.transitions import Transitions, training_rows
from ldcq.data.windows import make_windows
from ldcq.policies.base import StatefulPolicy
from ldcq.policies.by_name import make_policy
from ldcq.prior_learner import PriorLearner
from ldcq.vae.latents import latent_table
from ldcq.vae.learner import VaeLearner
from services.actor.rollout import rollout
from services.actor.scores import episode_returns

SMOKE = Path(__file__).parents[1] / "experiments" / "settings" / "random-walk.smoke.yaml"
SETTINGS = [
    *("device=cpu", "discount=0.9", "vae.epochs=30", "vae.batch_size=64"),
    *("prior.epochs=30", "prior.batch_size=64", "prior.options.diffusion.blocks=[32, 32]"),
    *("critic.updates=1000", "critic.windows=2000", "critic.batch_size=64"),
    *("critic.hidden=[64, 64]", "critic.learning_rate=2.0e-3", "critic.target_update_rate=0.05"),
    *("critic.candidates=8", "critic.cached_candidates=8", "actor.candidates=8"),
]
EPISODES = 20
CPU = torch.device("cpu")


def test_the_best_of_some_latents_is_better_than_one(tmp_path: Path) -> None:
    """A walk to one end takes a dozen steps; one that turns around at random takes a hundred."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = load(SMOKE, SETTINGS)
    ensure_dataset(config.data, tmp_path, lambda _done, _all: None)
    windows = make_windows(load_episodes(config.data, tmp_path), config.horizon, 0.05, config.seed)
    vae = VaeLearner(config, windows, CPU)
    for step in range(vae.total):
        vae.update(step)
    decoder = vae.vae.eval()
    table = latent_table(decoder, windows, slice(None), config.discount)
    learner = PriorLearner(config, table, CPU)
    for step in range(learner.total):
        learner.update(step)
    prior = learner.published.eval().sampler()
    rows = training_rows(table, config.critic.windows, config.seed)
    transitions = Transitions.of(table, rows, CPU)
    replay = PrioritisedReplay(config.critic.replay, len(transitions))
    source = OnlineCandidates(config, prior, transitions, replay)
    algorithm1 = LDCQ(config, transitions, replay, source)
    for step in range(algorithm1.iterations):
        algorithm1.update(step)
    task = load_task(config, tmp_path)

    def returns(name: Any) -> np.ndarray:
        policy = make_policy(name, config, decoder, prior, algorithm1.critic.eval())
        episodes = rollout(
            task.make_env,
            StatefulPolicy(policy, config.evaluation.seed),
            episodes=EPISODES,
            environments=EPISODES,
            seed=config.evaluation.seed,
            max_episode_steps=task.max_episode_steps,
        )
        return episode_returns([episode.rewards for episode in episodes])

    ranked, unranked = returns("ldcq"), returns("prior")
    assert ranked.mean() > unranked.mean() + 30
    assert ranked.mean() > -10
