"""Finds implementations of priors: classes registered in the entry-point group `ldcq.priors`."""

from __future__ import annotations

import difflib
from importlib.metadata import entry_points

from ldcq.config import Config, ConfigError, resolve_variant
from ldcq.prior import Prior

ENTRY_POINT_GROUP = "ldcq.priors"


class UnknownPriorError(ValueError):
    """No implementation is registered under this name, or what is registered is not one."""


def registered() -> tuple[str, ...]:
    """Names of the implementations installed, sorted."""
    return tuple(sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)}))


def check_priors(config: Config) -> None:
    """Looks through all variants for what their priors cannot do. One that is not installed here
    may be served by another program, and is left to it.

    Raises:
        ConfigError: There is something; the message says where.
        UnknownPriorError: One is registered, but cannot be imported.
    """
    known = registered()
    for variant in (config.variant, *config.variants):
        own = resolve_variant(config, variant)
        for name in {*own.prior.options} - {*known, own.prior.implementation}:
            if close := difflib.get_close_matches(name, known, n=1):
                raise ConfigError(
                    f"prior.options.{name}: no prior of that name; did you mean {close[0]!r}? "
                    f"expected one of {', '.join(known)}"
                )
        if own.prior.implementation in known:
            find_prior(own.prior.implementation).check(own)


def find_prior(name: str) -> type[Prior]:
    """The implementation registered as `name`.

    Raises:
        UnknownPriorError: There is none, it cannot be imported, or it lacks part of the protocol.
    """
    points = entry_points(group=ENTRY_POINT_GROUP, name=name)
    if not points:
        raise UnknownPriorError(
            f"prior.implementation is {name!r}, expected one of {', '.join(registered())}"
            f" (entry points of the group {ENTRY_POINT_GROUP!r})"
        )
    point = next(iter(points))
    try:
        implementation = point.load()
    except (ImportError, AttributeError) as error:
        raise UnknownPriorError(
            f"prior {name!r} ({point.value}) cannot be loaded: {error}"
        ) from error
    if not (isinstance(implementation, type) and issubclass(implementation, Prior)):
        raise UnknownPriorError(
            f"prior {name!r} ({point.value}) is no prior: expected a subclass of"
            f" {Prior.__module__}.{Prior.__name__}"
        )
    return implementation
