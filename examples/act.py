"""A trained policy in a Gymnasium loop: in this process, or served.

ldcq run configs/demo.yaml --store runs/demo
ldcq export runs/demo runs/policy
python examples/act.py runs/policy --store runs/demo                    # in this process

ldcq serve prior --store runs/demo --listen localhost:50052
ldcq serve actor --store runs/demo --listen localhost:50051 --prior localhost:50052
python examples/act.py localhost:50051 --store runs/demo                # the same actions
"""

import argparse
from pathlib import Path

import ldcq
from common.data import load_task
from common.data.flat_environment import GOAL
from ldcq.config import load

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("policy", help="a folder of `ldcq export`, or the address of an actor")
arguments.add_argument("--store", type=Path, required=True, help="names task and configuration")
arguments.add_argument("--episodes", type=int, default=3)
arguments.add_argument("--seed", type=int, default=0)
given = arguments.parse_args()

policy: ldcq.Policy
if Path(given.policy).is_dir():
    policy = ldcq.load_policy(given.policy, seed=given.seed)
else:
    policy = ldcq.connect(given.policy, seed=given.seed)

task = load_task(load(given.store / "run" / "config.yaml"), given.store)
environment = task.make_env()
for episode in range(given.episodes):
    observation, info = environment.reset(seed=given.seed + episode)
    policy.reset()
    total = 0.0
    for _ in range(task.max_episode_steps):
        goals = info[GOAL][None] if GOAL in info else None
        action = policy.act(observation[None], goals)[0]
        observation, reward, terminated, truncated, info = environment.step(action)
        total += float(reward)
        if terminated or truncated:
            break
    print(f"episode {episode}: return {total:.1f}")
