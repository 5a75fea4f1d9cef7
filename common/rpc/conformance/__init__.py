"""What anyone's prior service must do to be one: each promise of `prior.proto` as a check."""

from common.rpc.conformance.checking import CheckResult, check_prior

__all__ = ["CheckResult", "check_prior"]
