"""The method is a library of its own: it imports without servers, store or environments, and its
remote half without torch.
"""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import ldcq

ABOVE: tuple[str, ...] = ("common", "services", "cli", "experiments", "benchmarks", "grpc", "zarr")
ABOVE += (
    "google.protobuf",
    "obstore",
    "prometheus_client",
    "gymnasium",
    "minari",
    "mujoco",
    "h5py",
)
METHOD = sorted(
    module.name
    for module in pkgutil.walk_packages(ldcq.__path__, "ldcq.")
    if not module.name.startswith("ldcq.v1")
)


def _run(blocked: tuple[str, ...], code: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a Python that has no module of these names."""
    block = f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
    command = [sys.executable, "-c", block + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


def test_every_module_of_the_method_imports_alone() -> None:
    assert {"ldcq.critic.algorithm1", "ldcq.diffusion.sampler", "ldcq.policies.ldcp"} <= {*METHOD}
    done = _run(ABOVE, f"import importlib\nfor name in {METHOD}: importlib.import_module(name)")
    assert done.returncode == 0, done.stderr
    assert _run(("pydantic",), "import ldcq.config").returncode != 0, "blocking does block"


def test_a_policy_of_a_server_needs_no_torch() -> None:
    code = """
import ldcq
from ldcq import Draw, LatentPrior, Policy, connect
try:
    connect("127.0.0.1:1", timeout=0.5)
except Exception as error:
    print(type(error).__name__, error)
"""
    done = _run(("torch", "safetensors", "gymnasium", "minari", "zarr"), code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("CallError actor at 127.0.0.1:1: ")


def test_what_needs_torch_says_so() -> None:
    done = _run(("torch",), "import ldcq\nldcq.load_policy")
    assert done.stderr.endswith(
        "ImportError: ldcq.load_policy needs torch: pip install 'ldcq[torch]'\n"
    )


def test_nothing_is_imported_before_it_is_used() -> None:
    code = "import ldcq\nassert not {'torch', 'grpc', 'numpy', 'pydantic'} & sys.modules.keys()"
    assert _run((), code).returncode == 0


def test_public_names_are_found_and_others_are_not() -> None:
    for name in ldcq.__all__:
        assert getattr(ldcq, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ldcq.nonsense  # noqa: B018
