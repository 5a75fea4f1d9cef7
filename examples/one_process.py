"""LDCQ in one process: dataset -> VAE -> latents -> prior, world model -> Q-learning -> acting.
No server.

    python examples/one_process.py                             # PointMaze, generated here; minutes
    python examples/one_process.py --set data.dataset=D4RL/pointmaze/medium-v2 data.generate=null

What `ldcq run` adds: resume, lineage, replicas, scores with intervals, reports.
"""

import argparse
from pathlib import Path

import numpy as np
from rich.progress import track

from common.data import ensure_dataset, load_episodes, load_task
from common.training import configure_torch
from ldcq.config import load
from ldcq.critic.algorithm1 import LDCQ
from ldcq.critic.candidates import CandidateSource, NoCandidates, OnlineCandidates
from ldcq.critic.replay import PrioritisedReplay
from ldcq.critic.transitions import Transitions, training_rows
from ldcq.data.windows import make_windows
from ldcq.policies.base import StatefulPolicy
from ldcq.policies.by_name import make_policy
from ldcq.prior_learner import PriorLearner
from ldcq.vae.latents import latent_table
from ldcq.vae.learner import VaeLearner
from ldcq.world_model import WorldModelLearner

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--config", default="demo", help="a YAML file, or a preset: demo, paper")
arguments.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", dest="overrides")
arguments.add_argument("--data", type=Path, default=Path("runs/one_process"))
arguments.add_argument("--episodes", type=int, default=10)
given = arguments.parse_args()

config = load(given.config, given.overrides)
if config.frames is not None:
    arguments.error("frames is set, expected null: images need `ldcq run`, then examples/act.py")
device = configure_torch(config)

# The data: episodes, cut into windows of H steps
if config.data.generate is not None:
    ensure_dataset(config.data, given.data)
episodes = load_episodes(config.data, given.data)
windows = make_windows(episodes, config.horizon, config.data.validation_fraction, config.seed)

# 1. The beta-VAE (Eq. 4) compresses windows into latents
vae = VaeLearner(config, windows, device)
for step in track(range(vae.total), "VAE"):
    vae.update(step)
decoder = vae.vae.eval()
table = latent_table(decoder, windows, slice(None), config.discount, config.lengths)

# 2. The diffusion prior (Eq. 5) learns which latents a state supports
learner = PriorLearner(config, table, device)
for step in track(range(learner.total), "prior"):
    learner.update(step)
prior = learner.published.eval().sampler()

# The world model (Eq. 9) learns where latents lead, for `actor.support`
everything = Transitions.of(table, np.arange(len(table)), device)
world = WorldModelLearner(config, table, everything)
for step in track(range(world.total), "world model"):
    world.update(step)

# 3. Latent Q-learning (Algorithm 1), with candidates in every iteration where the target asks
rows = training_rows(table, config.critic.windows, config.seed)
transitions = Transitions.of(table, rows, device)
replay = PrioritisedReplay(config.critic.replay, len(transitions))
source: CandidateSource = NoCandidates(config, replay)
if config.critic.needs_candidates:
    source = OnlineCandidates(config, prior, transitions, replay)
algorithm1 = LDCQ(config, transitions, replay, source)
for step in track(range(algorithm1.iterations), "critic"):
    algorithm1.update(step)

# 4. Acting: the best of n latents, decoded into actions
critic, world_model = algorithm1.critic.eval(), world.model.eval()
policy = StatefulPolicy(make_policy("ldcq", config, decoder, prior, critic, world_model))
task = load_task(config, given.data)
environment = task.make_env()
for episode in range(given.episodes):
    observation, info = environment.reset(seed=episode)
    policy.reset()
    total = 0.0
    for _ in range(task.max_episode_steps):
        action = policy.act(observation[None])[0]
        observation, reward, terminated, truncated, info = environment.step(action)
        total += float(reward)
        if terminated or truncated:
            break
    print(f"episode {episode}: return {total:.1f}")
