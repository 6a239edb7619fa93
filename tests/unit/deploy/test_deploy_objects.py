"""The chart, rendered by the real helm: every profile is what Kubernetes takes, and safe."""

from __future__ import annotations

import functools
import http.server
import subprocess
import sys
import threading
from typing import Any

import cloudcoil.models.cert_manager.v1 as cert_manager
import cloudcoil.models.keda.v1alpha1 as keda
import cloudcoil.models.prometheus_operator.v1 as prometheus
import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.support.kube import CHART, PROFILES, Object, helm, of, pods, profile, rendered, selects

# Every minor version of Kubernetes that the chart promises (kubeVersion) and that has a schema.
KUBERNETES = ("1.31.0", "1.32.0", "1.33.0", "1.34.0", "1.35.0", "1.36.0", "1.37.0")
# Schemas of these custom resources are published; those of Strimzi and CloudNativePG are not
# checked here.
CUSTOM: dict[str, Any] = {
    "Certificate": cert_manager.Certificate,
    "ScaledObject": keda.ScaledObject,
    "TriggerAuthentication": keda.TriggerAuthentication,
    "PodMonitor": prometheus.PodMonitor,
    "PrometheusRule": prometheus.PrometheusRule,
}
UNCHECKED = {"Kafka", "KafkaNodePool", "KafkaUser", "Cluster"}


@pytest.mark.parametrize("name", PROFILES)
def test_helm_lint_finds_nothing(name: str) -> None:
    answer = helm("lint", "--strict", str(CHART), f"--values={CHART / f'values-{name}.yaml'}")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "WARNING" not in answer.stdout
    assert "ERROR" not in answer.stdout


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_valid_for_every_kubernetes(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It reads its 1 MB of definitions anew for every object otherwise.
    cached = functools.cache(kubernetes_validate.utils.schema_contents)
    monkeypatch.setattr(kubernetes_validate.utils, "schema_contents", cached)
    for name in PROFILES:
        built_in = [one for one in profile(name) if one["kind"] not in CUSTOM.keys() | UNCHECKED]
        assert len(built_in) > 50
        for one in built_in:
            kubernetes_validate.validate(one, version, strict=True)


def test_the_chart_refuses_an_older_kubernetes() -> None:
    with pytest.raises(AssertionError, match=r"requires kubeVersion: >=1\.31"):
        rendered("laptop", version="1.30.0")


@pytest.mark.parametrize("name", PROFILES)
def test_custom_resources_are_valid(name: str) -> None:
    for one in profile(name):
        if model := CUSTOM.get(one["kind"]):
            _validator(model).validate(one)


def _validator(model: Any) -> jsonschema.Draft202012Validator:
    # The schema itself is not checked: it holds a pattern in Go's dialect.
    return jsonschema.Draft202012Validator(_closed(model.model_json_schema(by_alias=True)))


def _closed(schema: Any) -> Any:
    """Unknown fields are an error, as the API server's strict check has it."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(closed.get("properties"), dict) and "additionalProperties" not in closed:
        closed["additionalProperties"] = False
    return closed


def test_an_unknown_field_of_a_custom_resource_is_found() -> None:
    scaled = dict(of(profile("region"), "ScaledObject")[0])
    scaled["spec"] = {**scaled["spec"], "maxReplicas": 3}
    with pytest.raises(jsonschema.ValidationError, match="maxReplicas"):
        _validator(keda.ScaledObject).validate(scaled)


@pytest.mark.parametrize("name", PROFILES)
def test_names_are_unique_and_carry_the_standard_labels(name: str) -> None:
    seen = [(one["apiVersion"], one["kind"], one["metadata"]["name"]) for one in profile(name)]
    assert len(seen) == len(set(seen))
    for one in profile(name):
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "lungmesh", one["metadata"]["name"]
        assert labels["app.kubernetes.io/component"]


@pytest.mark.parametrize("name", PROFILES)
def test_every_pod_is_restricted(name: str) -> None:
    """Pod Security Standards, profile "restricted"; and the root file system is read-only."""
    for where, pod in pods(profile(name)).items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, where
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), where
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, where
        assert security["runAsUser"] > 0, where
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, where
        for volume in spec.get("volumes", []):
            kinds = set(volume) - {"name"}
            assert kinds <= {"emptyDir", "secret", "configMap", "persistentVolumeClaim"}, where
        for container in spec["containers"] + spec.get("initContainers", []):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, where
            assert own["readOnlyRootFilesystem"] is True, where
            assert own["capabilities"] == {"drop": ["ALL"]}, where


@pytest.mark.parametrize("name", PROFILES)
def test_every_container_is_limited_and_every_server_probed(name: str) -> None:
    for where, pod in pods(profile(name)).items():
        for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", []):
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"]), where
            assert "memory" in resources["limits"], where
        if where.startswith("Deployment/"):
            (container,) = pod["spec"]["containers"]
            assert {"livenessProbe", "readinessProbe"} <= set(container), where
            assert len(pod["spec"]["topologySpreadConstraints"]) == 2, where
            assert pod["spec"]["terminationGracePeriodSeconds"] >= 60, where


def test_without_tls_readiness_is_asked_by_grpc() -> None:
    """The kubelet's gRPC probe speaks no TLS: with TLS, the same state is asked by HTTP."""
    (plain,) = pods(profile("laptop"))["Deployment/lungmesh-detection"]["spec"]["containers"]
    (sealed,) = pods(profile("region"))["Deployment/lungmesh-detection"]["spec"]["containers"]
    assert plain["readinessProbe"]["grpc"] == {"port": 50051}
    assert sealed["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}


@pytest.mark.parametrize("name", PROFILES)
def test_every_deployment_has_one_budget_and_its_own_account(name: str) -> None:
    objects = profile(name)
    accounts = {one["metadata"]["name"]: one for one in of(objects, "ServiceAccount")}
    for deployment in of(objects, "Deployment"):
        template = deployment["spec"]["template"]
        labels, where = template["metadata"]["labels"], deployment["metadata"]["name"]
        budgets = [
            one
            for one in of(objects, "PodDisruptionBudget")
            if selects(one["spec"]["selector"], labels)
        ]
        assert len(budgets) == 1, where
        assert selects(deployment["spec"]["selector"], labels), where
        account = accounts[template["spec"]["serviceAccountName"]]
        assert account["automountServiceAccountToken"] is False, where
    selectors = [str(one["spec"]["selector"]) for one in of(objects, "Deployment")]
    assert len(selectors) == len(set(selectors))


@pytest.mark.parametrize("name", PROFILES)
def test_no_secret_is_rendered(name: str) -> None:
    """Secrets come by reference alone; what a value calls a secret is never a plain variable."""
    objects = profile(name)
    assert not of(objects, "Secret")
    for where, pod in pods(objects).items():
        for container in pod["spec"]["containers"]:
            for variable in container.get("env", []):
                words = set(variable["name"].split("_"))
                if words & {"KEY", "TOKEN", "TOKENS", "PASSWORD", "SECRET"}:
                    path = str(variable.get("value", ""))
                    assert "valueFrom" in variable or path.startswith(("/tls/", "/tmp/")), where
    assert "DATABASE_URL, value" not in yaml.safe_dump(list(objects))


@pytest.mark.parametrize("name", PROFILES)
def test_hooks_prepare_before_an_upgrade_and_run_the_new_image(name: str) -> None:
    made = pods(profile(name))
    jobs = of(profile(name), "Job")
    assert {one["metadata"]["annotations"]["helm.sh/hook"] for one in jobs} == {
        "post-install,pre-upgrade"
    }
    for job in jobs:
        (preparing,) = job["spec"]["template"]["spec"]["containers"]
        service = preparing["name"]
        (serving,) = made[f"Deployment/lungmesh-{service}"]["spec"]["containers"]
        assert preparing["image"] == serving["image"]
        assert preparing["env"] == serving["env"]
        assert preparing["command"][-2:] == ["lungmesh.mesh.prepare", service]
        # A Service must not send calls to it.
        labels = job["spec"]["template"]["metadata"]["labels"]
        for address in of(profile(name), "Service"):
            assert not selects({"matchLabels": address["spec"]["selector"]}, labels)


@pytest.mark.parametrize("broken", [False, True])
def test_helm_test_says_which_service_is_not_ready_and_why(broken: bool) -> None:
    class Readiness(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            away = broken and self.path == "/followup/readyz"
            self.send_response(503 if away else 200)
            self.end_headers()
            self.wfile.write(b"the broker is away\n" if away else b"ready\n")

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Readiness) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        script = (CHART / "files" / "ready.py").read_text()
        base = f"http://127.0.0.1:{server.server_port}"
        said = subprocess.run(
            [
                sys.executable,
                "-c",
                script.replace("PATIENCE_SECONDS = 120.0", "PATIENCE_SECONDS = 0.0"),
                f"{base}/ingest/readyz",
                f"{base}/followup/readyz",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        server.shutdown()
    if broken:
        assert said.returncode == 1
        assert said.stderr == f"{base}/followup/readyz: the broker is away\n"
    else:
        assert (said.returncode, said.stdout) == (0, "all 2 services are ready\n")


@pytest.mark.parametrize("name", PROFILES)
def test_a_service_with_a_folder_is_one_process(name: str) -> None:
    (ingest,) = [
        one for one in of(profile(name), "Deployment") if "ingest" in one["metadata"]["name"]
    ]
    assert ingest["spec"]["replicas"] == 1
    assert ingest["spec"]["strategy"] == {"type": "Recreate"}
    (claim,) = [
        one
        for one in of(profile(name), "PersistentVolumeClaim")
        if one["metadata"]["name"] == "lungmesh-ingest"
    ]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_scaled_deployments_leave_their_number_to_keda() -> None:
    objects = profile("region")
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in of(objects, "ScaledObject")}
    assert {"lungmesh-detection", "lungmesh-triton"} <= scaled
    for one in of(objects, "Deployment"):
        assert ("replicas" in one["spec"]) == (one["metadata"]["name"] not in scaled)


@pytest.mark.parametrize("name", PROFILES)
def test_an_upgrade_keeps_the_names_and_selectors_of_the_version_before(name: str) -> None:
    """A changed name loses data, a changed selector cannot be applied. The file is 0.1.0's."""
    kept = yaml.safe_load((CHART.parent / "names" / f"0.1.0-{name}.yaml").read_text())
    assert kept == {key: value for key, value in _names(profile(name)).items() if key in kept}


# What holds data, is known to others by name, or has a selector that cannot change.
LASTING = {
    "Cluster",
    "Deployment",
    "Kafka",
    "KafkaNodePool",
    "KafkaUser",
    "PersistentVolumeClaim",
    "Service",
    "ServiceAccount",
}


def _names(objects: tuple[Object, ...]) -> dict[str, Any]:
    return {
        f"{one['kind']}/{one['metadata']['name']}": one["spec"]["selector"]["matchLabels"]
        if one["kind"] == "Deployment"
        else None
        for one in objects
        if one["kind"] in LASTING
    }
