"""What a configuration names as `package.module:function`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from ldcq.config.loading import ConfigError


def imported(name: str, key: str, expected: str) -> Callable[..., Any]:
    """The function or class of that name.

    Args:
        name: As `package.module:function`.
        key: Of the configuration, for messages.
        expected: What the key takes, for messages.

    Raises:
        ConfigError: It is named in another way, or cannot be imported.
    """
    module, separator, function = name.partition(":")
    if not separator or not module or not function:
        raise ConfigError(f"{key} is {name!r}, expected {expected}")
    try:
        found = getattr(importlib.import_module(module), function, None)
    except Exception as error:  # whatever the user's module raises
        raise ConfigError(
            f"{key} is {name!r}: cannot import {module} ({type(error).__name__}: {error}); it "
            "must be in the folder where the actor is started, or on its PYTHONPATH"
        ) from error
    if not callable(found):
        raise ConfigError(f"{key} is {name!r}: {module} has no function {function}")
    return found  # type: ignore[no-any-return]
