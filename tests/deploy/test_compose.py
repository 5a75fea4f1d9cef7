"""What the container files promise, checked without an engine."""

from __future__ import annotations

import itertools
import platform
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.certificates import NAMES, environment
from cli.plan import needed_variants
from common.stages import STAGES, Stage
from ldcq.config import load
from ldcq.diffusion.fast.kernel import build

ROOT = Path(__file__).resolve().parents[2]
FILES = ("docker-compose.yml", "docker-compose.gpu.yml")
SECURE = "docker-compose.secure.yml"
OBSERVABILITY = "deploy/observability/docker-compose.yml"
FOREIGN = "examples/foreign-prior/docker-compose.yml"
WITH_PROCESS = [stage for stage in STAGES.values() if stage.module]
IMAGES = sorted({stage.module.split(".")[1] for stage in WITH_PROCESS})
ONE_SHOT = {"data", "prior-trainer", "prior-trainer-bcq-h", "world-model", "bc", "frames"}
LONG_RUNNING = {"vae", "prior", "qlearner", "actor", "prior-bcq-h", "qlearner-bcq-h"}
PROFILES = {
    "baselines": {"prior-trainer-bcq-h", "prior-bcq-h", "qlearner-bcq-h"},
    "ldcp": {"world-model"},
    "bc": {"bc"},
    "frames": {"frames"},
}

Service = dict[str, Any]


def services(file: str = "docker-compose.yml") -> dict[str, Service]:
    """The services of a compose file, YAML's merge keys resolved."""
    found: dict[str, Service] = yaml.safe_load((ROOT / file).read_text())["services"]
    return found


def dockerfile(service: str) -> str:
    return (ROOT / "services" / service / "Dockerfile").read_text()


def settings() -> dict[str, str]:
    lines = (ROOT / ".env").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def test_every_service_is_healthy_when_it_serves_or_ends_when_it_is_done() -> None:
    assert set(services()) == ONE_SHOT | LONG_RUNNING
    for name in LONG_RUNNING:
        probe = services()[name]["healthcheck"]["test"]
        assert probe[:4] == ["CMD", "python", "-m", "common.rpc.probe"]
        port = probe[4].rpartition(":")[2]
        assert f"--listen 0.0.0.0:{port}" in services()[name]["command"]
        assert services()[name]["restart"] == "unless-stopped"
    for name in ONE_SHOT:
        assert "healthcheck" not in services()[name]
        assert services()[name]["restart"].startswith("on-failure")


@pytest.mark.parametrize("name", sorted(ONE_SHOT | LONG_RUNNING))
def test_a_container_may_do_nothing_but_its_work(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "network_mode"} & set(service)
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
    assert service["volumes"] == ["ldcq-store:/store", "./configs:/app/configs:ro"]
    assert service["logging"]["options"]["max-size"]


def test_the_prior_can_be_scaled() -> None:
    for name in ("prior", "prior-bcq-h"):
        assert not {"ports", "container_name", "hostname"} & set(services()[name])


def test_the_priors_that_are_called_are_those_that_are_served() -> None:
    called = {
        (name, *found)
        for name, service in services().items()
        for found in re.findall(r"--prior (?:(\w+)=)?dns:///([\w-]+):(\d+)", service["command"])
    }
    assert {variant for _, variant, _, _ in called} == {"", "bcq_h"}
    for name, variant, host, port in called:
        served = services()[host]["command"]
        assert f"--listen 0.0.0.0:{port}" in served, name
        assert f"--variant {variant}" in served if variant else "--variant" not in served, name


def test_the_prior_is_swapped_wherever_it_matters_and_nothing_else_is() -> None:
    swap = "${PRIOR_IMPLEMENTATION:+--set prior.implementation=${PRIOR_IMPLEMENTATION}}"
    swapped = {name for name, service in services().items() if swap in service["command"]}
    assert swapped == (ONE_SHOT | LONG_RUNNING) - {"data", "vae", "world-model", "bc", "frames"}
    assert set(services(FOREIGN)) == {"prior"}
    text = (ROOT / "examples" / "foreign-prior" / "Dockerfile").read_text()
    for source in re.findall(r"^COPY ([^-]\S*) ", text, re.MULTILINE):
        assert (ROOT / source).exists()
        allowed = (ROOT / ".dockerignore").read_text().splitlines()
        assert any(f"!{source}".startswith(line) for line in allowed if line.startswith("!"))


def test_the_profiles_fit_the_default_configuration() -> None:
    found = {
        name: service["profiles"] for name, service in services().items() if "profiles" in service
    }
    assert found == {name: [profile] for profile, names in PROFILES.items() for name in names}
    config = load(ROOT / settings()["LDCQ_CONFIG"])
    profiles = settings()["COMPOSE_PROFILES"].split(",")
    assert ("baselines" in profiles) == ("bcq_h" in config.variants)
    needed = needed_variants(config)
    assert ("ldcp" in profiles) == bool(needed["world_model"])
    assert ("bc" in profiles) == bool(needed["bc"])
    assert ("frames" in profiles) == bool(needed["frames"])


@pytest.mark.parametrize("stage", WITH_PROCESS, ids=lambda stage: stage.kind)
def test_every_stage_has_a_service_that_makes_it(stage: Stage) -> None:
    """The main pipeline's: it ends or goes on to serve as the table says, in the right image."""
    image = f"ldcq-{stage.module.split('.')[1]}"
    making = {
        name: service
        for name, service in services().items()
        if _module(service) == stage.module
        and "--variant" not in service["command"]
        and service["command"].split()[:2] != ["serve", "--config"]
    }
    ((name, service),) = making.items()
    assert service["image"] == image
    assert (name in ONE_SHOT) == stage.ends
    assert service["command"].startswith("train " if stage.ends else "serve --train ")
    assert "--prior" in service["command"] or not stage.calls_prior
    serving = {
        name
        for name, service in services().items()
        if _module(service) == stage.module and service["command"].startswith("serve ")
    }
    assert serving <= LONG_RUNNING
    assert bool(serving) == bool(stage.serves)


def _module(service: Service) -> str:
    """What a container runs: the entry point of its image, where it names no other."""
    image: str = service["image"].removeprefix("ldcq-")
    entry: list[str] = service.get("entrypoint", ["python", "-m", f"services.{image}"])
    return entry[-1]


def test_every_setting_is_explained_and_used() -> None:
    text = "".join((ROOT / file).read_text() for file in (*FILES, OBSERVABILITY))
    used = set(re.findall(r"\$\{(\w+)", text))
    assert used | {"COMPOSE_PROFILES"} == set(settings())


def test_every_image_is_built_once_from_its_own_dockerfile() -> None:
    built = {
        service["image"]: service["build"] for service in services().values() if "build" in service
    }
    assert len(built) == sum("build" in service for service in services().values())
    assert {service["image"] for service in services().values()} == set(built)
    for name in IMAGES:
        assert built[f"ldcq-{name}"]["context"] == "."
        assert built[f"ldcq-{name}"]["dockerfile"] == f"services/{name}/Dockerfile"


def test_the_dockerfiles_differ_in_the_name_of_the_service_only() -> None:
    def shared(service: str) -> str:
        _, _, rest = dockerfile(service).partition("\n")  # the first line says what the image does
        return re.sub(rf"\b{service}\b", "SERVICE", rest)

    for one, other in itertools.pairwise(IMAGES):
        assert shared(one) == shared(other)


@pytest.mark.parametrize("service", IMAGES)
def test_a_dockerfile_keeps_to_what_engine_20_10_builds(service: str) -> None:
    text = dockerfile(service)
    assert not re.search(r"^# *syntax=|<<|--link|^VOLUME|^ADD ", text, re.MULTILINE)
    instructions = re.findall(r"^([A-Z]+) ", text, re.MULTILINE)
    assert instructions.index("USER") > instructions.index("COPY")
    assert "USER ldcq" in text
    assert "install -d -o ldcq -g ldcq /store /tls" in text
    assert f'ENTRYPOINT ["python", "-m", "services.{service}"]' in text


@pytest.mark.parametrize("service", IMAGES)
def test_an_image_installs_an_extra_that_exists_and_copies_what_exists(service: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = dockerfile(service).replace("${SERVICE}", service).replace("$SERVICE", service)
    extras = ",".join(re.findall(r'"\.\[([\w,-]+)\]"', text)).split(",")
    assert set(extras) == {"torch", "tracing", service}
    assert set(extras) <= set(project["optional-dependencies"])
    copied = re.findall(r"^COPY ([^-]\S*) ", text, re.MULTILINE)
    assert f"services/{service}" in copied
    for source in copied:
        assert (ROOT / source).exists()
    allowed = (ROOT / ".dockerignore").read_text()
    for source in (*copied, "wheelhouse"):
        assert f"\n!{source.split('/')[0]}" in allowed


def test_the_priors_image_brings_its_compiled_kernel(tmp_path: Path) -> None:
    """The stage's command, run as it stands: what it builds is what the service looks for."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    text = dockerfile("prior").replace("\\\n", "")
    stage = text[text.index(" AS compiled") : text.index("FROM python:3.11-slim\n\n")]
    command = re.search(r"^RUN (mkdir .*)$", stage, re.MULTILINE)
    assert command
    assert "COPY ldcq/diffusion/fast fast\n" in stage
    assert "COPY --from=compiled /kernels ldcq/diffusion/fast\n" in text
    copy = tmp_path / "fast"
    copy.mkdir()
    for name in ("kernel.c", "kernel.py"):
        shutil.copy(ROOT / "ldcq" / "diffusion" / "fast" / name, copy)
    subprocess.run(["sh", "-ec", command[1]], cwd=tmp_path, check=True)
    built = {path.name for path in (tmp_path / "kernels").iterdir()}
    levels = ("AVX512", "AVX2", "DEFAULT") if platform.machine() == "x86_64" else ("DEFAULT",)
    assert built == {build(level, tmp_path).name for level in levels}


def test_gpu_services_reserve_a_gpu_and_have_images_of_their_own() -> None:
    for name, service in services("docker-compose.gpu.yml").items():
        assert service["image"] == f"{services()[name]['image']}:cuda"
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
        assert ("build" in service) == ("build" in services()[name])
    needing = {name for name in services() if name not in ("actor", "data")}
    assert set(services("docker-compose.gpu.yml")) == needing


def test_the_secure_stack_protects_all_that_serve_or_call() -> None:
    added = services(SECURE)
    maker = added.pop("certificates")
    assert maker["extends"] == {"file": FILES[0], "service": "data"}
    assert services()["data"]["image"] == "ldcq-actor"  # the one with the extra `certificates`
    folder = maker["command"].removeprefix("certificates ")
    assert maker["volumes"] == [f"ldcq-tls:{folder}"]
    speaking = {name for name, each in services().items() if "--listen" in each["command"]}
    assert set(added) == speaking
    assert speaking <= set(NAMES)
    for service in added.values():
        assert service["environment"] == environment(Path(folder))
        assert service["volumes"] == [f"ldcq-tls:{folder}:ro"]
        condition = {"condition": "service_completed_successfully"}
        assert service["depends_on"] == {"certificates": condition}


@pytest.mark.parametrize(
    "files", [FILES[:1], FILES, (FILES[0], FOREIGN), (FILES[0], SECURE), (*FILES, SECURE)]
)
def test_compose_accepts_the_files(files: tuple[str, ...]) -> None:
    compose = ["docker", "compose"]
    if not shutil.which("docker") or subprocess.run([*compose, "version"], check=False).returncode:
        pytest.skip("no docker compose here")
    options = [part for file in files for part in ("-f", file)]
    command = [*compose, *options, "config", "-q"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
