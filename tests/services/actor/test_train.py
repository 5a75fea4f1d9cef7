"""The stage over a real store, real environments and real prior services."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from tests.services.actor.conftest import Pipeline

from common.config import override
from common.store import Stopped
from services.actor import train


def test_stage(pipeline: Pipeline) -> None:
    context = pipeline.context()
    version = train.run(context)
    print(json.dumps(pipeline.store.load("evaluation", version).meta.details, indent=1))
