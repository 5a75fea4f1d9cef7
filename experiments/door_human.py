"""door-human: LDCQ against BC and BCQ-H on 25 human demonstrations (Table 3)."""

from __future__ import annotations

from common.data import is_on_this_machine
from common.data.adroit import write_door_demonstrations
from experiments.configurations import need_dataset
from experiments.evaluations import run_seeds
from experiments.experiment import Context, Experiment, Findings, Picture
from experiments.figures import scores
from experiments.seen import headline
from experiments.tasks import METHODS, paper_values
from ldcq.config import ConfigError, load

ARCHIVE = "door-human/door-v0_demos.npz"


def run(context: Context) -> Findings:
    """Trains and plays all methods for every training seed."""
    config = context.config
    _import_demonstrations(context)
    need_dataset(config, context.store)
    evaluations = run_seeds(context, config)
    papers = paper_values(load("door-human"))
    rows = [evaluations.row(name, paper=papers.get(name)) for name in METHODS]
    caption = "Returns with their intervals, normalised as D4RL does."
    differences = [evaluations.difference("ldcq", other) for other in ("bc", "prior", "bcq_h")]
    return Findings(
        rows,
        [Picture("scores", caption, scores(rows))],
        notes=[
            headline(rows, differences),
            "The environment ends an episode after 200 steps; most demonstrations are longer, so "
            "that the data themselves score what they have reached by then. The paper's BCQ row "
            "is not BCQ-H and is left out.",
        ],
        artifacts=evaluations.artifacts,
        differences=differences,
    )


def _import_demonstrations(context: Context) -> None:
    """Replays the demonstrations into the store, where they are not on this machine yet."""
    config = context.config
    if context.dataset is not None or is_on_this_machine(config.data, context.store.root):
        return
    file = context.third_party / ARCHIVE if context.third_party else None
    if file is None or not file.is_file():
        raise ConfigError(
            "door-human: the demonstrations are a third party's and not on this machine; put "
            "door-v0_demos.npz of https://github.com/aravindr93/hand_dapg into a folder "
            f"door-human and set LDCQ_THIRD_PARTY_DATA to the folder around it (now: "
            f"{context.third_party or 'not set'})"
        )
    context.pipeline.say(f"replaying the demonstrations of {file.name}")
    write_door_demonstrations(file, config.data.dataset, context.store.root)


EXPERIMENT = Experiment(
    name="door-human",
    title="door-human",
    shows=(
        "Learning from 25 human demonstrations with 28 action dimensions: behaviour cloning (BC), "
        "a prior sample as it comes, BCQ-H and LDCQ."
    ),
    paper="Table 3",
    tuned=(
        "In scale `small`, the critic, n, the temperature and the steps of a latent were chosen "
        "for LDCQ with one training seed, the VAE's epochs with training seeds 0, 1 and 2, which "
        "are among those reported (docs/methods/ldcq.md). The other methods take them over. The "
        "settings of scale `full` are the paper's; it does not give H."
    ),
    seeds={"smoke": 1, "small": 3, "full": 5},
    run=run,
    methods=METHODS,
)
