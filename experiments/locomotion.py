"""Running in MuJoCo: LDCQ against BC and BCQ-H on data of three kinds (Table 2)."""

from experiments.tasks import experiment

EXPERIMENT = experiment(
    "locomotion",
    title="Locomotion",
    shows=(
        "Dense rewards and periodic gaits, where latents of H steps have little to stitch: "
        "behaviour cloning (BC), a prior sample as it comes, BCQ-H and LDCQ."
    ),
    paper="Table 2",
    tasks=tuple(
        f"{body}-{data}"
        for data in ("medium-expert", "medium", "medium-replay")
        for body in ("halfcheetah", "walker2d", "hopper")
    ),
    tuned=(
        "Nothing: the settings are those of the preset `small`, with the updates and the decoder "
        "set beforehand."
    ),
    notes=(
        "The data are played by one trained policy with noise, whose levels stand for D4RL's "
        "policies (docs/data.md).",
    ),
)
