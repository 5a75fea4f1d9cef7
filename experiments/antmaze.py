"""antmaze-large: LDCQ, LDGC and LDCP against BC and BCQ-H (Tables 1, 8)."""

from experiments.tasks import AGAINST, GOAL_METHODS, experiment

EXPERIMENT = experiment(
    "antmaze",
    title="antmaze-large",
    shows=(
        "Stitching of an ant's ways between random places to the way to one goal, with the "
        "control of its eight joints: behaviour cloning (BC), a prior sample as it comes, BCQ-H, "
        "LDCQ, a goal-conditioned prior (LDGC) and planning with the world model (LDCP)."
    ),
    paper="Tables 1 and 8",
    tasks=("antmaze-large-diverse",),
    methods=GOAL_METHODS,
    against=(*AGAINST, "ldgc", "ldcp"),
    tuned="Settings of scale `small` were tried with training seed 100, which is not reported.",
    notes=(
        "The data are made here: OGBench's ant, which has D4RL's gears and time step, steered by "
        "a policy of this project's (docs/data.md). *data (behaviour)* is what its ways "
        "score, one in ten of which leads to the goal.",
    ),
)
