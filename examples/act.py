"""A trained policy in a Gymnasium loop: in this process, or served.

ldcq run configs/demo.yaml --store runs/demo
ldcq export runs/demo runs/policy
python examples/act.py runs/policy --store runs/demo                    # in this process

ldcq serve prior --store runs/demo --listen localhost:50052
ldcq serve actor --store runs/demo --listen localhost:50051 --prior localhost:50052
python examples/act.py localhost:50051 --store runs/demo                # the same actions

Where observations have images (configs/pixels.yaml), the exported policy compresses them; for a
served one, `--encoder runs/policy` names it.
"""

import argparse
from pathlib import Path

import gymnasium

import ldcq
from common.data import load_task
from common.data.flat_environment import GOAL
from ldcq.config import load

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("policy", help="a folder of `ldcq export`, or the address of an actor")
arguments.add_argument("--store", type=Path, required=True, help="names task and configuration")
arguments.add_argument("--encoder", help="for images and an address: a folder of `ldcq export`")
arguments.add_argument("--episodes", type=int, default=3)
arguments.add_argument("--seed", type=int, default=0)
given = arguments.parse_args()

policy: ldcq.Policy
if Path(given.policy).is_dir():
    policy = ldcq.load_policy(given.policy, seed=given.seed)
else:
    policy = ldcq.connect(given.policy, seed=given.seed)

task = load_task(load(given.store / "run" / "config.yaml"), given.store)
observe = None  # observations are states
if task.flattening is not None and task.flattening.frame_shape:
    observe = task.observer(ldcq.load_policy(given.encoder or given.policy).encode)

environments = gymnasium.vector.SyncVectorEnv([task.make_env])
for episode in range(given.episodes):
    observations, info = environments.reset(seed=given.seed + episode)
    policy.reset()
    total = 0.0
    for _ in range(task.max_episode_steps):
        states = observe(observations) if observe else observations
        actions = policy.act(states, info.get(GOAL))
        observations, rewards, terminated, truncated, info = environments.step(actions)
        total += float(rewards[0])
        if terminated[0] or truncated[0]:
            break
    print(f"episode {episode}: return {total:.1f}")
