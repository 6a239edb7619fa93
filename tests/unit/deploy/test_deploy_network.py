"""The network policies: the real edges of the mesh and nothing else."""

from __future__ import annotations

import pytest

from deploy.schema import FACTS
from tests.support.kube import PROFILES, Object, of, pods, profile, selects

RELEASE = {"app.kubernetes.io/instance": "lungmesh"}
# Opened for a person's port-forward, which comes through the kubelet, or for the kubelet's probes.
LOCAL = {("triton", 8000)}


def policies(name: str) -> list[Object]:
    return of(profile(name), "NetworkPolicy")


def component(pod: Object) -> str:
    found: str = pod["metadata"]["labels"]["app.kubernetes.io/component"]
    return found


def rules(policy: Object, way: str) -> list[tuple[int, list[Object]]]:
    """Return (port, peers) of a policy; an empty list of peers would mean everybody."""
    peers = "from" if way == "ingress" else "to"
    return [
        (port["port"], rule[peers])
        for rule in policy["spec"].get(way, [])
        for port in rule["ports"]
    ]


@pytest.mark.parametrize("name", PROFILES)
def test_everything_is_forbidden_to_every_pod_at_first(name: str) -> None:
    (deny,) = [one for one in policies(name) if one["metadata"]["name"] == "lungmesh-deny"]
    assert deny["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert not deny["spec"].keys() & {"ingress", "egress"}
    for where, pod in pods(profile(name)).items():
        assert selects(deny["spec"]["podSelector"], pod["metadata"]["labels"]), where


@pytest.mark.parametrize("name", PROFILES)
def test_no_rule_is_open_to_everybody(name: str) -> None:
    for policy in policies(name):
        for way in ("ingress", "egress"):
            for port, peers in rules(policy, way):
                assert peers, (policy["metadata"]["name"], way, port)
                assert all(peer for peer in peers)


@pytest.mark.parametrize("name", PROFILES)
def test_each_pod_has_one_policy_beside_the_denial(name: str) -> None:
    own = [one for one in policies(name) if one["metadata"]["name"] != "lungmesh-deny"]
    for where, pod in pods(profile(name)).items():
        labels = pod["metadata"]["labels"]
        assert len([one for one in own if selects(one["spec"]["podSelector"], labels)]) == 1, where


@pytest.mark.parametrize("name", PROFILES)
def test_only_open_ports_are_allowed_and_each_by_exactly_one_policy(name: str) -> None:
    open_ports: set[tuple[str, int]] = set()
    for where, pod in pods(profile(name)).items():
        if where.startswith("Deployment/"):
            (container,) = pod["spec"]["containers"]
            open_ports |= {(component(pod), one["containerPort"]) for one in container["ports"]}
    allowed: list[tuple[str, int]] = []
    for policy in policies(name):
        labels = policy["spec"]["podSelector"]["matchLabels"]
        if RELEASE.items() <= labels.items() and "app.kubernetes.io/component" in labels:
            who = labels["app.kubernetes.io/component"]
            allowed += {(who, port) for port, _ in rules(policy, "ingress")}
    assert len(allowed) == len(set(allowed))
    assert set(allowed) <= open_ports
    # What nobody calls stays shut: gRPC of the other services, doors that are not in use.
    called = {peer for facts in FACTS.values() for peer in facts.get("peers", {}).values()}
    shut = open_ports - set(allowed)
    expected = {(service, 50051) for service in FACTS if service not in called} | LOCAL
    if name == "laptop":
        expected |= {("ingest", 8042), ("console", 8080), ("triton", 8002)}
    if name != "hospital":
        # No PACS there commits what it stored.
        expected.add(("delivery", FACTS["delivery"]["ports"]["dicom"]))
    assert shut == expected


@pytest.mark.parametrize("name", PROFILES)
def test_calls_between_services_are_allowed_at_both_ends(name: str) -> None:
    """Every peer of files/services.yaml, and Triton: out of the caller, into the called."""
    edges = {
        (who, peer) for who, facts in FACTS.items() for peer in facts.get("peers", {}).values()
    }
    edges.add(("detection", "triton"))
    out, into = set(), set()
    for policy in policies(name):
        who = policy["metadata"]["name"].removeprefix("lungmesh-")
        for port, peers in rules(policy, "egress"):
            out |= {(who, peer) for peer in _components(peers) if port in (50051, 8001)}
        for port, peers in rules(policy, "ingress"):
            into |= {(peer, who) for peer in _components(peers) if port in (50051, 8001)}
    assert out == edges
    assert into == edges


def _components(peers: list[Object]) -> set[str]:
    labels = [one.get("podSelector", {}).get("matchLabels", {}) for one in peers]
    return {
        one["app.kubernetes.io/component"]
        for one in labels
        if RELEASE.items() <= one.items() and "app.kubernetes.io/component" in one
    }


@pytest.mark.parametrize("name", ["hospital", "region"])
def test_only_delivery_reaches_the_hospitals_and_only_they_reach_the_dicom_door(name: str) -> None:
    networks = {"hospital": {"10.20.0.0/16"}, "region": {"10.31.0.0/16", "10.32.0.0/16"}}[name]
    for policy in policies(name):
        who = policy["metadata"]["name"].removeprefix("lungmesh-")
        out = _networks(policy, "egress") & networks
        into = _networks(policy, "ingress") & networks
        assert out == (networks if who == "delivery" else set()), who
        doors = {"ingest", "delivery"} if name == "hospital" else {"ingest"}
        assert into == (networks if who in doors else set()), who


def _networks(policy: Object, way: str) -> set[str]:
    blocks = [peer.get("ipBlock") for _, peers in rules(policy, way) for peer in peers]
    return {one["cidr"] for one in blocks if one}


@pytest.mark.parametrize("name", PROFILES)
def test_only_stateful_services_reach_the_database(name: str) -> None:
    for policy in policies(name):
        who = policy["metadata"]["name"].removeprefix("lungmesh-")
        if who in FACTS:
            reaches = 5432 in [port for port, _ in rules(policy, "egress")]
            assert reaches == FACTS[who].get("database", False), who


def test_the_restore_token_goes_to_ingest_and_delivery_alone() -> None:
    holders = set()
    for where, pod in pods(profile("hospital")).items():
        (container,) = pod["spec"]["containers"]
        if where.startswith("Deployment/") and any(
            one["name"].endswith("RESTORE_TOKEN") for one in container["env"]
        ):
            holders.add(container["name"])
    assert holders == {"ingest", "delivery"}
