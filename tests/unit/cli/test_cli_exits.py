"""Every end of a command has a sentence and a status that a script can tell apart."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lungmesh.cli import app
from lungmesh.cli.exits import MEANINGS, CommandError, Exit, writing
from tests.support.mesh import lungmesh
from tests.unit.cli.test_cli_folder import write


def test_every_status_has_a_meaning_in_the_help() -> None:
    assert set(MEANINGS) == set(Exit)
    shown = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    for status, meaning in MEANINGS.items():
        assert f"{status.value} {meaning}" in shown


def test_wrong_arguments_end_with_usage() -> None:
    ended = lungmesh("run", "--bogus", limit_seconds=30)
    assert ended.returncode == Exit.USAGE
    assert "--bogus" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_bad_folder_is_said_before_any_mesh_starts(tmp_path: Path) -> None:
    ended = lungmesh(
        "run", tmp_path / "no", "--out", tmp_path / "out", "--data", tmp_path / "data",
        limit_seconds=30,
    )  # fmt: skip
    assert ended.returncode == Exit.BAD_FOLDER
    assert ended.stderr == f"lungmesh: there is no folder {tmp_path / 'no'}\n"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "command", [["watch"], ["dlq", "list"], ["dlq", "replay", "report"], ["due"]]
)
def test_commands_that_need_a_mesh_say_how_to_start_one(tmp_path: Path, command: list[str]) -> None:
    ended = lungmesh(*command, "--data", tmp_path, "--json", limit_seconds=30)
    assert ended.returncode == Exit.NO_MESH
    told = json.loads(ended.stdout)
    assert told["exit_status"] == Exit.NO_MESH
    assert "`lungmesh up`" in told["text"]


@pytest.mark.parametrize("address", ["localhost", "host:", "host:port", "host:70000", ":104"])
def test_a_wrong_address_is_told_with_an_example(tmp_path: Path, address: str) -> None:
    write(tmp_path / "a.dcm")
    ended = lungmesh("send", tmp_path, address, limit_seconds=30)
    assert ended.returncode == Exit.USAGE
    assert "HOST:PORT" in ended.stderr


def test_a_listener_that_is_not_there_is_no_mesh(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm")
    ended = lungmesh("send", tmp_path, "127.0.0.1:1", limit_seconds=60)
    assert ended.returncode == Exit.NO_MESH
    assert "127.0.0.1:1 cannot be reached" in ended.stderr


def test_a_service_that_does_not_exist_is_wrong_usage() -> None:
    ended = lungmesh("serve", "nosuch", limit_seconds=30)
    assert ended.returncode == Exit.USAGE
    assert "there is no service 'nosuch'" in ended.stderr


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_an_output_folder_that_takes_nothing_is_named(tmp_path: Path, number: int) -> None:
    with pytest.raises(CommandError, match=os.strerror(number)) as caught, writing(tmp_path):
        raise OSError(number, os.strerror(number))
    assert caught.value.exit_status == Exit.OUTPUT
    assert str(tmp_path) in str(caught.value)


def test_an_output_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    write(tmp_path / "study" / "a.dcm")
    (tmp_path / "out").touch()
    ended = lungmesh("run", tmp_path / "study", "--out", tmp_path / "out", limit_seconds=30)
    assert ended.returncode == Exit.OUTPUT
    assert f"{tmp_path / 'out'} cannot be written" in ended.stderr
