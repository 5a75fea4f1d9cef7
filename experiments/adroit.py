"""A hand of 24 joints: LDCQ against BC and BCQ-H on cloned-like data (Table 3)."""

from experiments.tasks import experiment

EXPERIMENT = experiment(
    "adroit",
    title="Adroit, cloned-like data",
    shows=(
        "Many action dimensions and few good episodes among noisy ones: behaviour cloning (BC), a "
        "prior sample as it comes, BCQ-H and LDCQ."
    ),
    paper="Table 3",
    tasks=("pen-cloned", "hammer-cloned", "door-cloned", "relocate-cloned"),
    tuned=(
        "Nothing: the settings are those of the preset `small`, with the updates, the decoder and "
        "the steps of a latent set beforehand, and were run once."
    ),
    notes=(
        "Half of the episodes are those of a trained policy with little noise, half with more. "
        "D4RL's cloned data are half human demonstrations, half a policy that imitates them: the "
        "scores here are of better data.",
    ),
)
