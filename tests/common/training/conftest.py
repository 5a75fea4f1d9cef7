"""Tests here set threads and determinism as well."""

from tests.ldcq.conftest import _leave_torch_as_it_was

__all__ = ["_leave_torch_as_it_was"]
