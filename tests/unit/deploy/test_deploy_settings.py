"""What the chart sets is what the services read, and what it says of them is so."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from deploy.schema import FACTS, build, managed, settings_class, variables
from lungmesh.embedded.services import SERVICES
from lungmesh.mesh import envelope
from lungmesh.mesh.contract import LANES
from lungmesh.mesh.settings import MeshSettings
from lungmesh.mesh.stage import Stage
from tests.support.kube import CHART, PROFILES, helm, of, pods, profile

# Not ours: of the object store and of libpq, tried in tests/integration/mesh/test_mesh_peers.py;
# of uvicorn; and where libraries write.
FOREIGN = {
    "HOME",
    "FORWARDED_ALLOW_IPS",
    "AWS_ENDPOINT",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "PGSSLMODE",
    "PGSSLROOTCERT",
}
LEAST = [
    "--set=kafka.strimzi.enabled=true",
    "--set=database.cloudnativepg.enabled=true",
    "--set=objectStore.url=file:///blobs",
]


def environments(name: str) -> dict[str, dict[str, Any]]:
    """Return the variables of each service of a profile; a secret's value is its reference."""
    found = {}
    for where, pod in pods(profile(name)).items():
        (container,) = pod["spec"]["containers"]
        service = container["name"]
        if where.startswith("Deployment/") and service != "triton":
            listed = container["env"]
            assert len({one["name"] for one in listed}) == len(listed), where
            found[service] = {one["name"]: one.get("value", one.get("valueFrom")) for one in listed}
    return found


def test_every_service_of_the_mesh_is_in_the_chart() -> None:
    assert set(FACTS) == set(SERVICES)


@pytest.mark.parametrize("name", PROFILES)
def test_every_variable_is_a_setting(name: str) -> None:
    shared = {f"LUNGMESH_{key}" for key in variables(MeshSettings)}
    for service, environment in environments(name).items():
        prefix = f"LUNGMESH_{service.upper()}__"
        own = {prefix + key for key in variables(settings_class(service))}
        assert set(environment) <= shared | own | FOREIGN, service


@pytest.mark.parametrize("name", PROFILES)
def test_every_service_takes_its_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The services' own classes read what is rendered, secrets filled in."""
    secrets = {
        "IDENTITY_KEY": "A" * 43 + "=",
        "STOW_TOKENS": '{"token": "hospital"}',
        "DATABASE_URL": "postgresql://user:password@host/name",
    }
    for service, environment in environments(name).items():
        with monkeypatch.context() as patch:
            for variable, value in environment.items():
                if isinstance(value, dict):
                    kept = variable.removeprefix("LUNGMESH_").split("__")[-1]
                    value = secrets.get(kept, "a-secret")
                patch.setenv(variable, value)
            own, shared = settings_class(service)(), MeshSettings()
        assert shared.grpc_host == "0.0.0.0"  # noqa: S104
        assert shared.blobs_url
        if service == "ingest":
            assert _get(own, "dicom_port") == FACTS["ingest"]["ports"]["dicom"]
        if service == "delivery" and name == "region":
            assert {one.tenant for one in _get(own, "destinations")} == {"hospital-a", "hospital-b"}


def _get(settings: BaseModel, name: str) -> Any:
    return getattr(settings, name)


@pytest.mark.parametrize("service", FACTS)
def test_the_chart_knows_ports_peers_folder_and_database_of_a_service(service: str) -> None:
    """By the settings class: a new port or peer must come into files/services.yaml."""
    facts, known = FACTS[service], set(variables(settings_class(service)))
    doors = {key.removesuffix("_PORT").lower() for key in known if key.endswith("_PORT")}
    assert set(facts.get("ports", {})) == doors
    assert managed(service) <= known
    peers = {
        name.upper()
        for name, field in settings_class(service).model_fields.items()
        if "host:port" in (field.description or "")
    }
    # Triton is none of the services, and is known by a value.
    assert peers - {"TRITON"} == set(facts.get("peers", {}))
    module = importlib.import_module(f"lungmesh.{service}.service")
    assert facts.get("database", False) == hasattr(module, "MIGRATIONS")


def _stages(kind: type[Stage]) -> dict[str, type[Stage]]:
    found: dict[str, type[Stage]] = {}
    for child in kind.__subclasses__():
        found |= _stages(child)
        # Other tests make stages too.
        if child.__module__.startswith("lungmesh."):
            found[child.name] = child
    return found


def test_the_chart_knows_every_stage_and_its_topics() -> None:
    """KEDA watches the consumer groups and topics that the chassis uses."""
    for service in FACTS:
        importlib.import_module(f"lungmesh.{service}.service")
    known = _stages(Stage)  # type: ignore[type-abstract]
    told: dict[str, list[str]] = {}
    for facts in FACTS.values():
        told |= facts["stages"]
    assert set(told) == set(known)
    for stage, topics in told.items():
        if stage == "console":
            # It takes everything and never scales.
            continue
        read = {envelope.topic(kind, lane) for kind in known[stage].consumes for lane in LANES}
        assert {f"{topic}.{lane}" for topic in topics for lane in LANES} == read, stage


def test_keda_watches_every_topic_of_a_scaled_stage() -> None:
    (scaled,) = [
        one
        for one in of(profile("region"), "ScaledObject")
        if one["metadata"]["name"] == "lungmesh-followup"
    ]
    watched = {
        (one["metadata"]["consumerGroup"], one["metadata"]["topic"])
        for one in scaled["spec"]["triggers"]
    }
    assert ("lungmesh.followup", "nodules.assessed.stat") in watched
    assert len(watched) == 2 * len(LANES)


def test_the_schema_is_the_one_of_these_settings() -> None:
    """After a change of settings: `python -m deploy.schema`."""
    assert json.loads((CHART / "values.schema.json").read_text()) == build()


def test_every_value_is_in_the_schema_and_the_other_way_round() -> None:
    """A value that the schema does not know is refused; one that has no default has no meaning."""

    def keys(schema: dict[str, Any], path: str = "") -> set[str]:
        found = set()
        for key, value in schema.get("properties", {}).items():
            here = f"{path}.{key}"
            open_ended = here.split(".")[-1] in ("settings", "secrets") or "$ref" in value
            found |= {here} if open_ended else keys(value, here) or {here}
        return found

    def leaves(values: Any, path: str = "") -> set[str]:
        found = set()
        for key, value in values.items():
            here = f"{path}.{key}"
            found |= leaves(value, here) if isinstance(value, dict) and value else {here}
        return found

    default = leaves(yaml.safe_load((CHART / "values.yaml").read_text()))
    for known in keys(build()):
        assert any(f"{one}.".startswith(f"{known}.") for one in default), known


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        (
            "services.ingest.replicas=two",
            "at '/services/ingest/replicas': got string, want integer",
        ),
        (
            "services.ingest.settings.QUIET_SECOND=3",
            "at '/services/ingest/settings': additional properties 'QUIET_SECOND' not allowed",
        ),
        ("image.pullPolicy=never", "at '/image/pullPolicy': value must be one of"),
        ("kafka.bootstrap=kafka", "at '/kafka/bootstrap': 'kafka' does not match pattern"),
        ("services.report.resources.limits.memory=2gb", "at '/services/report/resources/limits"),
        ("triton.gpu.resource=amd.com/gpu", "at '/triton/gpu/resource': 'amd.com/gpu' does not"),
        ("kafak.partitions=3", "at '': additional properties 'kafak' not allowed"),
        ("services.ingest.replicas=2", "services.ingest.replicas must be 1"),
        ("metrics.podMonitor=1", "at '/metrics/podMonitor': got number, want boolean"),
        ("objectStore.url=ftp://store", "at '/objectStore/url': 'ftp://store' does not match"),
        ("kafka.strimzi.enabled=false", "kafka.bootstrap is empty: set it, or kafka.strimzi"),
        ("triton.enabled=false", "triton.address is empty: set it, or triton.enabled"),
        ("ingress.enabled=true", "ingress.enabled needs ingress.console.host"),
    ],
)
def test_a_wrong_value_is_refused_in_one_clear_line(setting: str, line: str) -> None:
    answer = helm("template", "x", str(CHART), *LEAST, f"--set={setting}")
    assert answer.returncode != 0
    said = [one for one in answer.stderr.splitlines() if line in one]
    assert len(said) == 1, answer.stderr
    pointed = [one for one in answer.stderr.splitlines() if one.startswith("- at")]
    assert len(pointed) == (1 if line.startswith("at ") else 0), answer.stderr


@pytest.mark.parametrize(
    ("tenant", "line"),
    [
        ({"name": "Hospital"}, "at '/tenants/0/name': 'Hospital' does not match"),
        ({"networks": ["10.0.0.1"]}, "at '/tenants/0/networks/0': '10.0.0.1' does not match"),
        ({"aeTitles": ["A" * 17]}, f"at '/tenants/0/aeTitles/0': '{'A' * 17}' does not match"),
        ({"destinations": [{}]}, "at '/tenants/0/destinations/0': missing property 'name'"),
    ],
)
def test_a_wrong_tenant_is_refused_in_one_clear_line(tenant: dict[str, Any], line: str) -> None:
    tenants = json.dumps([{"name": "a", "aeTitles": ["A"], "networks": [], **tenant}])
    answer = helm("template", "x", str(CHART), *LEAST, f"--set-json=tenants={tenants}")
    (said,) = [one for one in answer.stderr.splitlines() if one.startswith("- at")]
    assert line in said


def test_two_tenants_may_not_share_an_ae_title() -> None:
    tenants = json.dumps([{"name": name, "aeTitles": ["A"], "networks": []} for name in "ab"])
    answer = helm("template", "x", str(CHART), *LEAST, f"--set-json=tenants={tenants}")
    assert "tenants: AE title A belongs to a and to b" in answer.stderr


def test_more_pods_than_partitions_are_refused() -> None:
    answer = helm(
        "template",
        "x",
        str(CHART),
        *LEAST,
        "--set=keda.enabled=true,keda.prometheus=http://p:9090,kafka.partitions=3",
    )
    assert "scaling.max is greater than kafka.partitions" in answer.stderr
