"""Wrong requests to the console, and what each must meet."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.support.console import PATIENT_NAME

SCRIPT = f"<script>alert('{PATIENT_NAME}')</script>"


@dataclass
class Wrong:
    """A wrong request and what it must meet."""

    name: str
    who: str
    method: str
    path: str
    status: int
    error: str
    options: dict[str, Any] = field(default_factory=dict)


def wrong_requests(study: str, foreign: str, nodule: str, uid: str) -> list[Wrong]:
    """Return them; `foreign` is a study of another tenant."""
    here = f"/api/studies/{study}"
    corrections = f"{here}/corrections"
    confirm = {"correction_id": str(uuid.uuid4()), "kind": "confirm", "nodule_id": nodule}
    sizes = {**confirm, "kind": "remeasure"}

    def say(**changes: object) -> dict[str, Any]:
        return {"json": {**confirm, **changes}}

    other_site = {"headers": {"Sec-Fetch-Site": "cross-site"}, **say()}
    foreign_origin = {"headers": {"Origin": "https://evil.example"}, **say()}
    forged = {"headers": {"Cookie": f"lungmesh_session={'A' * 43}"}}
    return [
        Wrong("no session", "nobody", "GET", here, 401, "no_session"),
        Wrong("forged session", "nobody", "GET", here, 401, "no_session", forged),
        Wrong("tampered cookie", "tamperer", "GET", here, 401, "no_session"),
        Wrong("no CSRF token", "plain", "POST", corrections, 403, "no_csrf", say()),
        Wrong(
            "another page", "radiologist", "POST", corrections, 403, "wrong_origin", foreign_origin
        ),
        Wrong("another site", "radiologist", "POST", corrections, 403, "wrong_origin", other_site),
        Wrong("nurse corrects", "nurse", "POST", corrections, 403, "not_allowed", say()),
        Wrong("nurse signs", "nurse", "POST", f"{here}/sign", 403, "not_allowed", {"json": {}}),
        Wrong("operator reads", "operator", "GET", here, 403, "not_allowed"),
        Wrong(
            "operator wants pixels",
            "operator",
            "GET",
            f"/dicomweb/studies/{uid}/metadata",
            403,
            "not_allowed",
        ),
        Wrong("radiologist audits", "radiologist", "GET", "/api/audit", 403, "not_allowed"),
        Wrong(
            "other tenant's study",
            "radiologist",
            "GET",
            f"/api/studies/{foreign}",
            404,
            "not_found",
        ),
        Wrong(
            "other tenant's list",
            "radiologist",
            "GET",
            "/api/worklist?tenant=elsewhere",
            403,
            "wrong_tenant",
        ),
        Wrong("unknown id", "radiologist", "GET", f"/api/studies/{uuid.uuid4()}", 404, "not_found"),
        Wrong("a patient's name for a page", "nobody", "GET", f"/{PATIENT_NAME}", 404, "not_found"),
        Wrong(
            "a script for a user",
            "administrator",
            "PUT",
            f"/api/users/{quote(SCRIPT, safe='')}",
            404,
            "not_found",
            {"json": {"roles": ["nurse"], "tenants": []}},
        ),
        Wrong(
            "a script for a user's role",
            "administrator",
            "PUT",
            "/api/users/nina",
            400,
            "bad_request",
            {"json": {"roles": [SCRIPT], "tenants": []}},
        ),
        Wrong(
            "signature on what was not read",
            "radiologist",
            "POST",
            f"{here}/sign",
            409,
            "edition_changed",
            {"json": {"password": "correct horse rana", "revision": 2, "edition": 1}},
        ),
        Wrong(
            "an older report",
            "radiologist",
            "GET",
            f"{here}/report/report.en.txt?edition=7",
            409,
            "edition_changed",
        ),
        Wrong(
            "no id at all", "radiologist", "GET", f"/api/studies/{PATIENT_NAME}", 404, "not_found"
        ),
        Wrong(
            "oversize upload",
            "radiologist",
            "POST",
            corrections,
            413,
            "too_large",
            say(type="x" * 70_000),
        ),
        Wrong(
            "out of the report",
            "radiologist",
            "GET",
            f"{here}/report/..%2f..%2f..%2fconsole.db",
            404,
            "not_found",
        ),
        Wrong(
            "out of the page",
            "radiologist",
            "GET",
            "/assets/..%2f..%2f..%2fsettings.py",
            404,
            "not_found",
        ),
        Wrong(
            "a path for a UID",
            "radiologist",
            "GET",
            "/dicomweb/studies/..%2f..%2fetc/series",
            404,
            "not_found",
        ),
        Wrong("no UID", "radiologist", "GET", "/dicomweb/studies/1.2;3/series", 400, "bad_request"),
        Wrong(
            "script for an id",
            "radiologist",
            "POST",
            corrections,
            400,
            "bad_request",
            say(nodule_id=SCRIPT),
        ),
        Wrong(
            "name of a patient as a field",
            "radiologist",
            "POST",
            corrections,
            400,
            "bad_request",
            say(**{PATIENT_NAME: 1}),
        ),
        Wrong(
            "author by the client",
            "radiologist",
            "POST",
            corrections,
            400,
            "bad_request",
            say(author="other"),
        ),
        Wrong(
            "link to another patient's exam",
            "radiologist",
            "POST",
            corrections,
            404,
            "not_found",
            say(kind="link", other={"study_id": foreign, "nodule_id": nodule}),
        ),
        Wrong(
            "impossible size",
            "radiologist",
            "POST",
            corrections,
            400,
            "bad_request",
            {"json": {**sizes, "measurement": {"long_axis_mm": -4.0}}},
        ),
        Wrong(
            "not a number",
            "radiologist",
            "POST",
            corrections,
            400,
            "bad_request",
            {
                "content": json.dumps({**sizes, "measurement": {"long_axis_mm": float("nan")}}),
                "headers": {"Content-Type": "application/json"},
            },
        ),
        Wrong(
            "not JSON",
            "radiologist",
            "POST",
            corrections,
            400,
            "not_json",
            {"content": PATIENT_NAME},
        ),
        Wrong("wrong method", "radiologist", "DELETE", here, 405, "method_not_allowed"),
        Wrong(
            "unknown filter",
            "radiologist",
            "GET",
            "/api/worklist?outcome=excellent",
            400,
            "bad_request",
        ),
        Wrong(
            "made-up page", "radiologist", "GET", "/api/worklist?page=bm9uZQ==", 400, "bad_request"
        ),
        Wrong(
            "another host",
            "radiologist",
            "GET",
            "/api/worklist",
            400,
            "bad_host",
            {"headers": {"Host": "evil.example"}},
        ),
        Wrong(
            "role for oneself",
            "nurse",
            "PUT",
            "/api/users/nina",
            403,
            "not_allowed",
            {"json": {"roles": ["administrator"], "tenants": []}},
        ),
    ]
