"""The paper's tables and figures, one module each: configurations run through the ordinary
pipeline, scores over training seeds, and the pages that show them. Imports the services' parts that
score and draw, and `common`; how a pipeline is run is handed in by the command line.
"""

NAMES = (
    "demo", "maze2d", "door-human", "horizon", "steps", "random-walk", "latents", "world-model",
    "pixels", "antmaze", "manipulation", "adroit", "locomotion",
)  # fmt: skip
"""The experiments, in the order of `make results`. Each is a module of its name, which offers an
`EXPERIMENT`.
"""
