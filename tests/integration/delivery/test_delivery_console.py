"""The operators' page: destinations as the delivery service tells them, dead letters, replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lungmesh.console.users import FIRST_USER
from lungmesh.v1.report_pb2 import ReportReady
from tests.integration.console.test_console_process import signed_in
from tests.support.broker import Broker
from tests.support.chassis import ServiceProcess, until
from tests.support.delivering import TENANT, copy, delivered, delivering, dicom
from tests.support.pacs import Scp, listening


async def test_an_operator_sees_a_dead_letter_of_a_destination_and_sends_it_again(
    broker: Broker, reports: Path, report: ReportReady, tmp_path: Path
) -> None:
    scp, ready = Scp(statuses=[0xA900]), copy(report, "console")
    secret = tmp_path / "password"
    with listening(scp):
        async with delivering(broker, tmp_path, reports, report, dicom(scp.port)) as (
            service,
            line,
        ):
            console = ServiceProcess(
                "lungmesh.mesh.serve",
                "console",
                tmp_path,
                broker.bootstrap,
                LUNGMESH_CONSOLE__FIRST_PASSWORD_FILE=str(secret),
                LUNGMESH_CONSOLE__FIRST_TENANTS=f'["{TENANT}"]',
                LUNGMESH_CONSOLE__DELIVERY=f"127.0.0.1:{service.ports['grpc']}",
            )
            try:
                await console.start(120)
                address = f"http://127.0.0.1:{console.ports['http']}"
                boss = await signed_in(address, FIRST_USER, secret.read_text().strip())
                password = "correct horse otto"
                user = {"roles": ["operator"], "tenants": [TENANT], "password": password}
                assert (await boss.put("/api/users/otto", json=user)).status_code == 204
                operator = await signed_in(address, "otto", password)

                async def page() -> dict[str, Any]:
                    answer = await operator.get("/api/operations")
                    assert answer.status_code == 200, answer.text
                    found: dict[str, Any] = answer.json()
                    return found

                async def dead() -> bool:
                    return bool((await page())["dead_letters"])

                await line.publish(ready)
                await until(dead, 120, f"the dead letter is there: {service.log}")
                told = await page()
                (letter,), (place,) = told["dead_letters"], told["destinations"]
                assert letter["stage"] == "delivery"
                assert letter["reason"].startswith("pacs: 2 of 2 objects were not sent")
                assert (place["name"], place["kind"], place["dead_letters"]) == ("pacs", "dicom", 1)
                (stage,) = [one for one in told["stages"] if one["stage"] == "delivery"]
                assert stage["dead_letters"] == 1

                scp.statuses = [0]
                path = f"/api/operations/dead-letters/{letter['event_id']}/replay"
                assert (await operator.post(path)).json() == {"replayed": 1}
                await until(lambda: delivered(line, "pacs"), 60, "it arrives")
                told = await page()
                assert told["dead_letters"] == []
                assert told["destinations"][0]["delivered"] == 1
                assert (await operator.post(path)).status_code == 404

                service.kill()
                # The page stays; it then shows what the console itself has seen.
                assert [one["name"] for one in (await page())["destinations"]] in ([], ["pacs"])
            finally:
                console.kill()
