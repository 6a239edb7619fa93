"""The models' cards, the repository for each target, and what `models verify` refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lungmesh.cli import models as commands
from lungmesh.cli.exits import CommandError
from lungmesh.cli.show import JsonLines
from lungmesh.embedded.models import Target, config_pbtxt, models_folder, read_models
from lungmesh.embedded.models import write_repository as write


def test_verify_finds_each_model_as_its_card_says(capsys: pytest.CaptureFixture[str]) -> None:
    commands.verify_models(JsonLines())
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [item["name"] for item in told] == [model.name for model in read_models()]


def test_list_gives_checksum_and_intended_use_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    commands.list_models(JsonLines())
    (told,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    for row in told["rows"]:
        assert len(row["sha256"]) == 64
        assert {
            "age_years",
            "nodule_types",
            "contrast",
            "slice_thickness_mm",
            "scanner",
        } <= row["intended_use"].keys()


def test_verify_refuses_a_file_that_is_not_the_cards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(models_folder(), tmp_path / "models")
    (model, *_) = read_models(tmp_path / "models")
    content = bytearray(model.onnx.read_bytes())
    content[len(content) // 2] ^= 1
    model.onnx.write_bytes(content)
    monkeypatch.setattr(commands, "read_models", lambda: read_models(tmp_path / "models"))
    with pytest.raises(CommandError, match="does not have the checksum of its card"):
        commands.verify_models(JsonLines())


def test_the_same_network_is_served_on_every_target(tmp_path: Path) -> None:
    for target in Target:
        for model in write(tmp_path / target.value, target):
            served = tmp_path / target.value / model.name / model.version / "model.onnx"
            assert served.read_bytes() == model.onnx.read_bytes()
            has_python = (served.parent / "model.py").exists()
            assert has_python == (target is Target.CPU)


def test_the_configuration_names_backend_and_device_of_its_target() -> None:
    (model, *_) = read_models()
    cpu, gpu = (config_pbtxt(model, target, threads=3) for target in (Target.CPU, Target.GPU))
    assert 'backend: "python"' in cpu
    assert "KIND_CPU" in cpu
    assert 'key: "threads" value: { string_value: "3" }' in cpu
    assert 'backend: "onnxruntime"' in gpu
    assert "KIND_GPU" in gpu
    assert "threads" not in gpu
    for text in (cpu, gpu):
        assert "dynamic_batching" in text
        assert model.card["sha256"] in text
