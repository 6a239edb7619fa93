"""Write the chart's values.schema.json, with the services' settings by their own classes.

`python -m deploy.schema` after a change of values or settings.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic_settings import BaseSettings

CHART = Path(__file__).parent / "helm" / "lungmesh"
FACTS: dict[str, dict[str, Any]] = yaml.safe_load((CHART / "files" / "services.yaml").read_text())
# Settings that the chart writes from values that concern several services.
GIVEN = {
    "ingest": {"TENANTS"},
    "detection": {"TRITON", "SHARED_MEMORY"},
    "followup": {"TENANT_GUIDELINES"},
    "console": {"PUBLIC_URL", "FIRST_PASSWORD_FILE", "FIRST_TENANTS"},
}

Schema = dict[str, Any]
_NAME = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"}
_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_QUANTITY = {"type": ["string", "integer"], "pattern": "^[0-9]+(\\.[0-9]+)?(m|[EPTGMk]i?)?$"}
_ADDRESS = {"type": "string", "pattern": "^([A-Za-z0-9._-]+:[0-9]+)?$"}
_URL = {"type": "string", "pattern": "^(https?://.+)?$"}
_CIDR = {"type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$"}
_PEERS = {"type": "array", "items": {"type": "object"}}
_LABELS = {"type": "object", "additionalProperties": _TEXT}
_TENANT = {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,62}$"}
_TITLE = {"type": "string", "pattern": "^[ -\\[\\]-~]{1,16}$"}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}


def settings_class(service: str) -> type[BaseSettings]:
    """Return the settings class of a service."""
    module = importlib.import_module(f"lungmesh.{service}.settings")
    found: type[BaseSettings] = getattr(module, f"{service.capitalize()}Settings")
    return found


def variables(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Return each variable that a settings class reads, without its prefix, and its annotation."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        key, kind = f"{prefix}{name.upper()}", field.annotation
        # `Settings` or `Settings | None`, not a list of them.
        kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        nested = [one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)]
        if nested:
            found |= variables(nested[0], f"{key}__")
        else:
            found[key] = kind
    return found


def managed(service: str) -> set[str]:
    """Return the variables of a service that the chart sets itself."""
    facts = FACTS[service]
    doors = {
        f"{port.upper()}_{part}" for port in facts.get("ports", {}) for part in ("HOST", "PORT")
    }
    folder = {facts["folder"]} if "folder" in facts else set()
    tls = {name for name in variables(settings_class(service)) if name.startswith("DICOM_TLS__")}
    return doors | set(facts.get("peers", {})) | folder | tls | GIVEN.get(service, set())


def build() -> Schema:
    """Return the schema."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "lungmesh",
        **_values(),
        "definitions": _definitions(),
    }


def _values() -> Schema:
    resources = {"$ref": "#/definitions/resources"}
    secret = {"$ref": "#/definitions/secret"}
    storage = _closed(size=_QUANTITY, **{"class": _TEXT})
    image: Schema = {
        "repository": {"type": "string", "minLength": 1},
        "tag": _TEXT,
        "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    }
    door = _closed(host={"type": "string", "pattern": "^[a-z0-9.-]*$"}, tlsSecret=_TEXT)
    return _closed(
        image=_closed(
            **image,
            pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
            pullSecrets={"type": "array", "items": _NAME},
        ),
        tenants={"type": "array", "minItems": 1, "items": _tenant()},
        kafka=_closed(
            bootstrap={
                "type": "string",
                "pattern": "^([A-Za-z0-9._-]+:[0-9]+(,[A-Za-z0-9._-]+:[0-9]+)*)?$",
            },
            partitions=_whole(1, 1000),
            replicationFactor=_whole(1, 9),
            tls=_closed(enabled=_FLAG, caSecret=secret),
            sasl=_closed(username=_TEXT, secret=secret),
            peers=_PEERS,
            strimzi=_closed(
                enabled=_FLAG,
                version=_TEXT,
                brokers=_whole(1, 99),
                storage=storage,
                resources=resources,
            ),
        ),
        database=_closed(
            secret=secret,
            caSecret=secret,
            port=_PORT,
            peers=_PEERS,
            cloudnativepg=_closed(
                enabled=_FLAG,
                instances=_whole(1, 9),
                storage=storage,
                resources=resources,
                operatorNamespace=_NAME,
            ),
        ),
        objectStore=_closed(
            url={"type": "string", "pattern": "^(s3://.+|az://.+|gs://.+|file:///.+)?$"},
            endpoint=_URL,
            region=_TEXT,
            secret=_closed(name=_TEXT, accessKey=_TEXT, secretKey=_TEXT),
            port=_PORT,
            peers=_PEERS,
            volume=_closed(
                size=_QUANTITY,
                accessMode={"enum": ["ReadWriteMany", "ReadWriteOnce"]},
                **{"class": _TEXT},
            ),
        ),
        triton=_closed(
            enabled=_FLAG,
            address=_ADDRESS,
            peers=_PEERS,
            image=_closed(**image),
            replicas=_whole(1, 1000),
            target={"enum": ["gpu", "cpu"]},
            tensorrt=_FLAG,
            gpu=_closed(
                resource={"type": "string", "pattern": "^nvidia\\.com/[A-Za-z0-9._-]+$"},
                count=_whole(1, 16),
            ),
            resources=resources,
            nodeSelector=_LABELS,
            tolerations=_PEERS,
            scaling=_closed(
                enabled=_FLAG,
                min=_whole(1, 1000),
                max=_whole(1, 1000),
                queueSeconds={"type": "number", "exclusiveMinimum": 0},
            ),
        ),
        tls=_closed(
            enabled=_FLAG,
            issuer=_closed(name=_TEXT, kind={"enum": ["Issuer", "ClusterIssuer"]}),
        ),
        dicom=_closed(
            type={"enum": ["LoadBalancer", "NodePort", "ClusterIP"]},
            port=_PORT,
            nodePort=_whole(0, 32767),
            commitmentPort=_PORT,
            commitmentNodePort=_whole(0, 32767),
            annotations=_LABELS,
            tlsSecret=_TEXT,
        ),
        ingress=_closed(
            enabled=_FLAG,
            className=_TEXT,
            annotations=_LABELS,
            peers=_PEERS,
            console=door,
            dicomweb=door,
        ),
        keda=_closed(
            enabled=_FLAG,
            prometheus=_URL,
            cooldownSeconds=_whole(0, 86400),
        ),
        metrics=_closed(podMonitor=_FLAG, peers=_PEERS, rules=_FLAG, dashboards=_FLAG),
        telemetry=_closed(
            otlpEndpoint=_ADDRESS,
            peers=_PEERS,
            logLevel={"enum": ["DEBUG", "INFO", "WARNING", "ERROR"]},
        ),
        egress=_closed(oidc={"type": "array", "items": _CIDR}),
        dns=_closed(namespace=_NAME, labels=_LABELS),
        priorityClasses=_closed(
            create=_FLAG, **dict.fromkeys(("door", "stage", "side"), _whole(-1000000, 1000000000))
        ),
        services=_closed(**{service: _service(service) for service in FACTS}),
    )


def _service(service: str) -> Schema:
    settings = settings_class(service)
    known = variables(settings)
    own = sorted(set(known) - managed(service))
    plain = [name for name in own if "SecretStr" not in str(known[name])]
    return _closed(
        replicas=_whole(1, 1000),
        priority={"enum": ["door", "stage", "side"]},
        settings=_closed(**{name: _scalar(known[name]) for name in plain}),
        secrets=_closed(**{name: {"$ref": "#/definitions/reference"} for name in own}),
        files={"type": "object", "propertyNames": _NAME, "additionalProperties": _NAME},
        volume=_closed(size={"anyOf": [_QUANTITY, {"const": ""}]}, **{"class": _TEXT}),
        scaling=_closed(
            enabled=_FLAG, min=_whole(1, 1000), max=_whole(1, 1000), lag=_whole(1, 1000000)
        ),
        resources={"$ref": "#/definitions/resources"},
        nodeSelector=_LABELS,
        tolerations=_PEERS,
    )


def _tenant() -> Schema:
    return {
        **_closed(
            name=_TENANT,
            aeTitles={"type": "array", "items": _TITLE},
            networks={"type": "array", "items": _CIDR},
            guideline=_TEXT,
            # Of many kinds: delivery itself checks them when it starts, before an upgrade too.
            destinations={
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"name": _NAME, "port": _PORT},
                    "required": ["name"],
                },
            },
        ),
        "required": ["name", "aeTitles"],
    }


def _definitions() -> Schema:
    amount = {"type": "object", "additionalProperties": _QUANTITY}
    return {
        "resources": {
            **_closed(
                requests=amount,
                limits={**amount, "required": ["memory"]},
            ),
            "required": ["requests", "limits"],
        },
        "secret": _closed(name=_TEXT, key=_TEXT),
        "reference": {
            **_closed(name=_NAME, key={"type": "string", "minLength": 1}),
            "required": ["name", "key"],
        },
    }


def _closed(**properties: Schema) -> Schema:
    """An object with these keys and no others."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _whole(least: int, most: int) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


def _scalar(kind: Any) -> Schema:
    """What YAML may hold for a setting; the service itself checks ranges at its start."""
    if kind is bool:
        return _FLAG
    if kind is int:
        return {"type": "integer"}
    if kind is float:
        return {"type": "number"}
    if str(kind).startswith(("list", "dict")):
        return {"type": ["array", "object"]}
    return _TEXT


def main() -> None:
    """Write the file."""
    text = json.dumps(build(), indent=1, ensure_ascii=False)
    (CHART / "values.schema.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
