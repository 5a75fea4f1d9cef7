"""Trains the peers on an experiment's data, plays them as the pipeline plays its methods, and
writes their scores, from which result pages take rows.

    make peers
    python -m experiments.peers demo --store runs/results --seconds 280 --seeds 5

The data are the experiment's, generated where they are missing, held-out episodes included.
Environment, starts, number of episodes and scores are those of its evaluation. Images are
compressed by the encoder that the pipeline has trained into the store. `--seconds` are the CPU
seconds of one training seed: what the page's LDCQ row took. An interrupted call resumes after the
last seed that was played.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from common.store import StoreError
from experiments.configurations import configurations, third_party_data
from experiments.peers.measure import PEERS, PYTHON, measure
from experiments.peers.rows import file_of
from experiments.registry import find, scale_of
from ldcq.config import ConfigError
from ldcq.data.episodes import DataError


def main() -> int:
    """Reads the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", help="its name")
    parser.add_argument("--task", help="one of its tasks, where it has several")
    parser.add_argument("--scale", default="small")
    parser.add_argument("--method", action="append", choices=PEERS, help="default: all")
    parser.add_argument("--store", type=Path, required=True, help="its folder `datasets` is used")
    parser.add_argument(
        "--seconds", type=_seconds, required=True, help="CPU seconds a training seed"
    )
    parser.add_argument("--seeds", type=_seeds, default=5)
    parser.add_argument(
        "--results", type=Path, default=Path("docs/results"), help="the folder of all pages"
    )
    given = parser.parse_args()
    if not PYTHON.is_file():
        print(f"{PYTHON}: not there; run `make peers` first", file=sys.stderr)
        return 2
    try:
        experiment = find(given.experiment)
        configs = configurations(
            experiment,
            scale_of(given.scale),
            store=given.store,
            third_party=third_party_data(),
        )
        task = given.task or (experiment.tasks or [experiment.name])[0]
        if task not in configs or (given.task is None and len(configs) > 1):
            raise ConfigError(f"--task {given.task}: expected one of {', '.join(configs)}")
        out = file_of(given.results, experiment, task)
        methods = given.method or tuple(PEERS)
        measure(configs[task], given.store, given.seconds, given.seeds, out, methods)
    except (ConfigError, DataError, StoreError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _seconds(text: str) -> float:
    if not 0 < (seconds := float(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"got {text}, expected a finite number above 0")
    return seconds


def _seeds(text: str) -> int:
    if (seeds := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected at least 1")
    return seeds


if __name__ == "__main__":
    sys.exit(main())
