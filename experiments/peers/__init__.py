"""Other offline methods as a library has them: IQL and TD3+BC of d3rlpy, on raw actions.

`measure` is part of the project: data in, scores out. `train` runs in an environment of its own
(`make peers`), so that d3rlpy is no dependency; it imports nothing of the project, and what lies
between the two are files.
"""
