"""Plan tokens: what comes back is believed only if it could have been made here."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.rpc.codec import encode
from common.rpc.errors import FailedPreconditionError, InvalidFieldError, RpcError
from ldcq.policies.base import Plan
from ldcq.v1 import actor_pb2
from services.actor.plans import from_token, sealed, to_token

PLAN = Plan(
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.array([0, 3], dtype=np.int32),
    7,
)
VERSIONS = "vae=a prior=b critic=c"
TOKEN = to_token(PLAN, method="ldcq", model_versions=VERSIONS)
CONTENT = TOKEN[: -len(sealed(b""))]


def _read(token: bytes, **changes: Any) -> Plan:
    arguments: dict[str, Any] = {
        "method": "ldcq",
        "model_versions": VERSIONS,
        "environments": 2,
        "latent_dim": 3,
        "execute_steps": 4,
    }
    return from_token(token, **{**arguments, **changes})


def _changed(**changes: Any) -> bytes:
    message = actor_pb2.PlanToken.FromString(TOKEN)
    for name, value in changes.items():
        message.ClearField(name)  # type: ignore[arg-type]
        if name in ("latents", "steps_left"):
            getattr(message, name).CopyFrom(encode(value))
        else:
            setattr(message, name, value)
    message.ClearField("checksum")
    return sealed(message.SerializeToString())


def test_a_token_brings_the_plan_back() -> None:
    plan = _read(TOKEN)
    assert plan.plans == 7
    np.testing.assert_array_equal(plan.latents, PLAN.latents)
    np.testing.assert_array_equal(plan.steps_left, PLAN.steps_left)
    assert plan.latents.dtype == np.float32
    assert plan.latents.flags.writeable


def test_other_models_are_a_failed_precondition() -> None:
    with pytest.raises(FailedPreconditionError, match=r"critic=c.*now uses.*critic=d"):
        _read(TOKEN, model_versions="vae=a prior=b critic=d")


@pytest.mark.parametrize(
    ("token", "field"),
    [
        (b"\xff\xff garbage", "plan_token"),
        (b"", "plan_token"),
        (sealed(b""), "plan_token.method"),
        (sealed(b"\xff\xff garbage"), "plan_token"),
        (TOKEN + TOKEN, "plan_token"),
        (_changed(method="prior"), "plan_token.method"),
        (_changed(latents=np.zeros((3, 3), np.float32)), "plan_token.latents"),
        (_changed(latents=np.zeros((2, 4), np.float32)), "plan_token.latents"),
        (_changed(latents=np.full((2, 3), np.nan, np.float32)), "plan_token.latents"),
        (_changed(steps_left=np.zeros(3, np.int32)), "plan_token.steps_left"),
        (_changed(steps_left=np.zeros(2, np.float32)), "plan_token.steps_left"),
        (_changed(steps_left=np.array([0, 4], np.int32)), "plan_token.steps_left"),
        (_changed(steps_left=np.array([-1, 0], np.int32)), "plan_token.steps_left"),
        (_changed(plans=2**64 - 1), "plan_token.plans"),
    ],
)
def test_tampering_is_refused_by_field(token: bytes, field: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        _read(token)
    assert caught.value.field == field
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_no_token_with_a_changed_bit_is_taken() -> None:
    for place in range(8 * len(TOKEN)):
        token = bytearray(TOKEN)
        token[place // 8] ^= 1 << place % 8
        with pytest.raises(InvalidFieldError, match="plan_token: got"):
            _read(bytes(token))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(CONTENT) - 1), st.integers(0, 255))
def test_a_made_up_token_is_a_plan_or_a_clear_refusal(place: int, value: int) -> None:
    content = bytearray(CONTENT)
    content[place] = value
    try:
        plan = _read(sealed(bytes(content)))
    except RpcError:
        return
    assert plan.latents.shape == (2, 3)
    assert np.isfinite(plan.latents).all()
    assert ((plan.steps_left >= 0) & (plan.steps_left < 4)).all()
