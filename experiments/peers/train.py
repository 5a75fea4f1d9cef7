"""Trains one method of d3rlpy for a number of CPU seconds; runs in the environment of `make peers`.

    .venv-peers/bin/python experiments/peers/train.py '{"algorithm": "IQL", ...}'

The argument is a JSON object: `algorithm` (of `d3rlpy.algos`), `settings` (of its configuration),
`hidden` (layer widths of all networks), `seed`, `cpu_seconds`, `action_low`, `action_high`,
`transitions` (the npz to read) and `policy` (the TorchScript to write, states (E, S) to actions
(E, A)). The last line printed is a JSON object: `cpu_seconds`, `updates`, `library`.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import d3rlpy  # type: ignore[import-not-found]
import numpy as np
import torch
from d3rlpy.dataset import TransitionMiniBatch  # type: ignore[import-not-found]


def train(given: dict[str, Any]) -> dict[str, Any]:
    """Updates on random transitions until the CPU seconds are used up, on one thread.

    The library's own replay assembles a batch transition by transition, which takes as long as an
    update of these networks. Rows of arrays leave the time to learning.
    """
    torch.set_num_threads(1)
    d3rlpy.seed(given["seed"])
    rows = dict(np.load(given["transitions"]))
    algorithm = _algorithm(given, rows["observations"])
    random = np.random.default_rng(given["seed"])
    updates, started = 0, time.process_time()
    while (spent := time.process_time() - started) < given["cpu_seconds"]:
        chosen = random.integers(len(rows["rewards"]), size=algorithm.batch_size)
        batch = {name: values[chosen] for name, values in rows.items()}
        # Neither method looks at next actions or whole transitions.
        algorithm.update(
            TransitionMiniBatch(**batch, next_actions=batch["actions"], transitions=[])
        )
        updates += 1
    algorithm.save_policy(given["policy"])
    library = f"d3rlpy {d3rlpy.__version__}"
    return {"cpu_seconds": spent, "updates": updates, "library": library}


def _algorithm(given: dict[str, Any], observations: Any) -> Any:
    encoder = d3rlpy.models.VectorEncoderFactory(hidden_units=given["hidden"])
    networks = ("actor", "critic", "value") if given["algorithm"] == "IQL" else ("actor", "critic")
    config = getattr(d3rlpy.algos, f"{given['algorithm']}Config")(
        observation_scaler=d3rlpy.preprocessing.StandardObservationScaler(
            mean=observations.mean(axis=0), std=observations.std(axis=0)
        ),
        action_scaler=d3rlpy.preprocessing.MinMaxActionScaler(
            minimum=np.array(given["action_low"]), maximum=np.array(given["action_high"])
        ),
        **{f"{network}_encoder_factory": encoder for network in networks},
        **given["settings"],
    )
    algorithm = config.create()
    algorithm.create_impl(observations.shape[1:], len(given["action_low"]))
    return algorithm


if __name__ == "__main__":
    print(json.dumps(train(json.loads(sys.argv[1]))))
