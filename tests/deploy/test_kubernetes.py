"""What Kustomize makes of deploy/kubernetes: valid, and as strict as the containers are."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.rpc.entry import _parser
from common.rpc.security import VARIABLES
from common.stages import STAGES, needed_stages
from ldcq.config import load
from services.actor import metrics as _actor_metrics  # noqa: F401
from services.prior import metrics
from services.prior.server import DRAIN_SECONDS

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
OVERLAYS = ("one-node", "gpu-node", "pool", "pool-s3", "pool-tls")
VERSION = "1.32"
CUSTOM = {"ScaledObject", "ServiceMonitor", "PodMonitor", "Certificate", "Issuer"}
"""Kinds of operators: their schemas are not Kubernetes' own."""
WORKLOADS = {"critic": "qlearner", "world_model": "world-model"}
"""What makes a stage, where it is not called as the stage's process is."""
PROBE = ["python", "-m", "common.rpc.probe", "127.0.0.1:50051"]

Resource = dict[str, Any]


@cache
def rendered(overlay: str) -> list[Resource]:
    """The resources of an overlay."""
    for command in (["kubectl", "kustomize"], ["kustomize", "build"]):
        if shutil.which(command[0]):
            path = str(FOLDER / "overlays" / overlay)
            done = subprocess.run([*command, path], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return list(yaml.safe_load_all(done.stdout))
    pytest.skip("neither kubectl nor kustomize is installed")


def of_kind(overlay: str, *kinds: str) -> dict[str, Resource]:
    return {item["metadata"]["name"]: item for item in rendered(overlay) if item["kind"] in kinds}


def workloads(overlay: str) -> dict[str, Resource]:
    return of_kind(overlay, "Deployment", "Job")


def pod(workload: Resource) -> Resource:
    found: Resource = workload["spec"]["template"]["spec"]
    return found


def container(workload: Resource) -> Resource:
    (found,) = pod(workload)["containers"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_schemas_of_kubernetes_accept_everything(overlay: str) -> None:
    validator = pytest.importorskip("kubernetes_validate")
    for item in rendered(overlay):
        if item["kind"] not in CUSTOM:
            validator.validate(item, VERSION, strict=True)
        assert item["kind"] == "Namespace" or item["metadata"]["namespace"] == "ldcq"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_may_do_nothing_but_their_work(overlay: str) -> None:
    made = {"frames", "vae", "prior-trainer", "prior", "qlearner", "world-model", "actor"}
    assert set(workloads(overlay)) == made | (set() if "s3" in overlay else {"data"})
    for workload in workloads(overlay).values():
        security = pod(workload)["securityContext"]
        assert security["runAsNonRoot"]
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod(workload)["automountServiceAccountToken"] is False
        for each in (container(workload), *pod(workload).get("initContainers", ())):
            own = each["securityContext"]
            assert own["readOnlyRootFilesystem"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert {"requests", "limits"} == set(each["resources"])
    (namespace,) = of_kind(overlay, "Namespace").values()
    enforced = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert enforced == "restricted"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_command_lines_are_understood(overlay: str) -> None:
    settings = next(
        item["data"] for name, item in of_kind(overlay, "ConfigMap").items() if "settings" in name
    )
    for name, workload in workloads(overlay).items():
        if name == "data":
            continue
        sources = [next(iter(source.values()))["name"] for source in container(workload)["envFrom"]]
        assert any(source.startswith("ldcq-settings-") for source in sources)
        arguments = [
            re.sub(r"\$\((\w+)\)", lambda match: settings[match[1]], argument)
            for argument in container(workload)["args"]
        ]
        understood = _parser(name, True, True).parse_args(arguments)
        assert understood.store == ("s3://ldcq/demo" if "s3" in overlay else "/store")
        assert understood.config == "/config/experiment.yaml"
        assert understood.listen == "0.0.0.0:50051"
        assert understood.metrics_port == 9090
        if understood.prior:
            assert understood.prior == ["dns:///prior:50051"]


def test_frames_are_trained_where_the_overlay_says_so(tmp_path: Path) -> None:
    assert load(str(FOLDER / "base" / "experiment.yaml")).frames is None
    assert all(workloads(overlay)["frames"]["spec"]["suspend"] for overlay in OVERLAYS)
    shutil.copy(FOLDER.parents[1] / "configs" / "pixels.yaml", tmp_path / "experiment.yaml")
    overlay = {
        "resources": [os.path.relpath(FOLDER / "overlays" / "one-node", tmp_path)],
        "components": [os.path.relpath(FOLDER / "components" / "frames", tmp_path)],
        "configMapGenerator": [
            {"name": "ldcq-experiment", "behavior": "replace", "files": ["experiment.yaml"]}
        ],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    job = workloads(str(tmp_path))["frames"]
    assert "suspend" not in job["spec"]
    (config,) = (each for each in pod(job)["volumes"] if each["name"] == "experiment")
    experiment = of_kind(str(tmp_path), "ConfigMap")[config["configMap"]["name"]]
    assert "frames:" in experiment["data"]["experiment.yaml"]
    assert _parser("frames", True, True).parse_args(container(job)["args"]).action == "train"
    assert container(job)["command"] == ["python", "-m", STAGES["frames"].module]


def test_only_methods_of_the_main_pipeline_are_evaluated_and_their_stages_are_there() -> None:
    arguments = container(workloads("pool")["actor"])["args"]
    changes = _parser("actor", True, True).parse_args(arguments).overrides
    config = load(str(FOLDER / "base" / "experiment.yaml"), changes)
    methods = config.evaluation.methods.values()
    assert {method.variant for method in methods} == {"main"}
    needed = {kind for method in methods for kind in needed_stages(method.policy, config)}
    for stage in (STAGES[kind] for kind in (*needed, "evaluation")):
        making = container(workloads("pool")[WORKLOADS.get(stage.process, stage.process)])
        understood = _parser(stage.kind, True, True).parse_args(making["args"])
        assert making["image"].partition(":")[0] == f"ldcq-{stage.module.split('.')[1]}"
        assert understood.action == ("train" if stage.ends else "serve")
        assert stage.ends or understood.train_first
        assert understood.prior or not stage.calls_prior


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_server_has_time_to_drain_and_probes_that_let_it_train(overlay: str) -> None:
    for workload in of_kind(overlay, "Deployment").values():
        assert pod(workload)["terminationGracePeriodSeconds"] > DRAIN_SECONDS
        own = container(workload)
        if "tls" in overlay:  # which Kubernetes' own probe does not speak
            assert "grpc" not in own["readinessProbe"]
            assert own["readinessProbe"]["exec"] == {"command": PROBE}
        else:
            assert own["readinessProbe"]["grpc"] == {"port": 50051}
        for probe in ("startupProbe", "livenessProbe"):
            assert own[probe]["exec"]["command"] == [*PROBE, "--live"]
    strategy = of_kind(overlay, "Deployment")["prior"]["spec"]["strategy"]
    assert strategy["rollingUpdate"]["maxUnavailable"] == 0


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_are_headless_and_find_their_pods(overlay: str) -> None:
    deployments = of_kind(overlay, "Deployment")
    for name, service in of_kind(overlay, "Service").items():
        assert service["spec"]["clusterIP"] == "None"
        labels = deployments[name]["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()
        ports = {port["name"] for port in container(deployments[name])["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    (budget,) = of_kind(overlay, "PodDisruptionBudget").values()
    assert budget["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_priors_are_called_by_those_who_have_to_and_by_nobody_else(overlay: str) -> None:
    calling = {
        name
        for name, workload in workloads(overlay).items()
        if any(argument.startswith("--prior=") for argument in container(workload)["args"])
    }
    policies = of_kind(overlay, "NetworkPolicy")
    (rule,) = policies["prior"]["spec"]["ingress"]
    (source,) = rule["from"]
    assert set(source["podSelector"]["matchExpressions"][0]["values"]) == calling
    assert "ingress" not in policies["nobody"]["spec"]


def test_a_gpu_for_all_that_compute_much() -> None:
    for name, workload in workloads("gpu-node").items():
        image, limits = container(workload)["image"], container(workload)["resources"]["limits"]
        expected = name not in ("data", "actor")
        assert (limits.get("nvidia.com/gpu") == "1") == expected
        assert image.endswith(":cuda") == expected


def test_replicas_follow_the_rows_that_wait_or_the_cpu() -> None:
    (scaled,) = of_kind("pool", "ScaledObject").values()
    assert scaled["spec"]["scaleTargetRef"] == {"name": "prior"}
    (trigger,) = scaled["spec"]["triggers"]
    assert metrics.PENDING_ROWS._name in trigger["metadata"]["query"]
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    behaviour = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behaviour["scaleDown"]["stabilizationWindowSeconds"] == 300
    (autoscaler,) = of_kind("one-node", "HorizontalPodAutoscaler").values()
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == "prior"
    for overlay in ("pool", "one-node"):
        assert "replicas" not in of_kind(overlay, "Deployment")["prior"]["spec"]


def test_metrics_are_scraped_from_every_process() -> None:
    (monitor,) = of_kind("pool", "ServiceMonitor").values()
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    services = of_kind("pool", "Service")
    assert set(services) == {"vae", "prior", "qlearner", "actor"}
    for service in services.values():
        assert wanted <= service["metadata"]["labels"].items()


def test_the_store_is_where_the_overlay_says() -> None:
    for overlay, modes in {"pool": ["ReadWriteMany"], "one-node": ["ReadWriteOnce"]}.items():
        (claim,) = of_kind(overlay, "PersistentVolumeClaim").values()
        assert claim["spec"]["accessModes"] == modes
    assert not of_kind("pool-s3", "PersistentVolumeClaim")
    for name, workload in workloads("pool-s3").items():
        sources = [next(iter(each.values()))["name"] for each in container(workload)["envFrom"]]
        assert "ldcq-s3" in sources
        volumes = {volume["name"]: volume for volume in pod(workload)["volumes"]}
        assert volumes["store"] == {"name": "store", "emptyDir": {}}
        # Who needs the dataset makes it first.
        assert ("initContainers" in pod(workload)) == (name in ("frames", "vae", "actor"))


def test_every_process_has_a_certificate_of_its_own_and_the_token() -> None:
    certificates = of_kind("pool-tls", "Certificate")
    speaking = {name: each for name, each in workloads("pool-tls").items() if name != "data"}
    assert set(certificates) == {*speaking, "authority"}
    for name, workload in speaking.items():
        made = certificates[name]["spec"]
        assert name in made["dnsNames"]
        assert made["ipAddresses"] == ["127.0.0.1"]  # what the probes call
        assert {"server auth", "client auth"} <= set(made["usages"])
        volumes = {volume["name"]: volume for volume in pod(workload)["volumes"]}
        assert volumes["tls"]["secret"] == {"secretName": made["secretName"], "defaultMode": 0o440}
        assert volumes["token"]["secret"] == {"secretName": "ldcq-token", "defaultMode": 0o440}
        assert pod(workload)["securityContext"]["fsGroup"]  # may read them


def test_the_settings_name_files_that_are_mounted() -> None:
    """By the keys that cert-manager gives a certificate's Secret."""
    settings = next(
        item["data"]
        for name, item in of_kind("pool-tls", "ConfigMap").items()
        if "settings" in name
    )
    given = {name: settings[name] for name in VARIABLES.values() if name in settings}
    assert given == {
        "LDCQ_TLS_CA": "/tls/ca.crt",
        "LDCQ_TLS_CERTIFICATE": "/tls/tls.crt",
        "LDCQ_TLS_KEY": "/tls/tls.key",
        "LDCQ_TLS_CLIENT_CA": "/tls/ca.crt",
        "LDCQ_TOKEN_FILE": "/token/token",
    }
    for name, workload in workloads("pool-tls").items():
        mounts = {mount["mountPath"]: mount for mount in container(workload)["volumeMounts"]}
        for path in ("/tls", "/token"):
            # Making data is no call.
            assert (path in mounts) == (name != "data")
            assert path not in mounts or mounts[path]["readOnly"]


def test_certificates_are_signed_by_an_authority_of_the_namespace() -> None:
    certificates, issuers = of_kind("pool-tls", "Certificate"), of_kind("pool-tls", "Issuer")
    authority = certificates.pop("authority")["spec"]
    assert authority["isCA"]
    assert issuers[authority["issuerRef"]["name"]]["spec"] == {"selfSigned": {}}
    for certificate in certificates.values():
        issuer = issuers[certificate["spec"]["issuerRef"]["name"]]
        assert issuer["spec"]["ca"]["secretName"] == authority["secretName"]
        assert not certificate["spec"].get("isCA")
    mounted = [
        volume["secret"]["secretName"]
        for workload in workloads("pool-tls").values()
        for volume in pod(workload)["volumes"]
        if "secret" in volume
    ]
    assert authority["secretName"] not in mounted
