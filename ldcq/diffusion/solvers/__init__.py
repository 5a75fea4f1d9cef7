"""Solvers of the reverse process: each turns a noise schedule into a plan of linear steps, one loop
runs them all.

A solver is a pure function of the schedule. Everything that differs between DDPM, DDIM and
multistep solvers is in the coefficients it returns, so the loop that spends the time
(`ldcq.diffusion.reverse_loop`) knows no solver by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ldcq.diffusion.solvers import ddim, ddpm, dpmpp_2m
from ldcq.diffusion.solvers.base import Solver, Step, trailing_timesteps

SOLVERS: Mapping[str, Solver] = MappingProxyType(
    {"ddpm": ddpm.plan, "ddim": ddim.plan, "dpmpp_2m": dpmpp_2m.plan}
)
"""Every solver by the name requests use."""

__all__ = ["SOLVERS", "Solver", "Step", "trailing_timesteps"]
