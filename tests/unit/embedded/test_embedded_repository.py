"""Triton's model repository: what is in it for each target, read as Triton reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from lungmesh.embedded.models import ModelUnfit, read_models, write_card
from lungmesh.embedded.repository import Target, config_pbtxt, write_repository
from tests.support.triton import write_network


def make(folder: Path, version: str = "1", **changed: Any) -> None:
    write_card(
        write_network(folder / "net" / version / "model.onnx", gain=float(version)),
        **{
            "title": "A test network",
            "description": "",
            "made_by": "the tests",
            "intended_use": {},
            "max_batch_size": 4,
            "parameters": {"family": "heatmap", "least_heat": int(version) / 10, "says": 'a "b"'},
            "shapes": {"hu": (16, 16, 16)},
            **changed,
        },
    )


def config(folder: Path, target: Target, **options: Any) -> Any:
    """Return the configuration of the one model in a folder, read by Triton's own definition."""
    text = config_pbtxt(read_models(folder), target, **options)
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_the_same_network_is_served_on_every_target(tmp_path: Path) -> None:
    for target in Target:
        for model in write_repository(tmp_path / target.value, target):
            served = tmp_path / target.value / model.name / model.version / "model.onnx"
            assert served.read_bytes() == model.onnx.read_bytes()
            has_python = (served.parent / "model.py").exists()
            assert has_python == (target is Target.CPU)


def test_writing_again_leaves_no_model_behind_and_nothing_else_out(tmp_path: Path) -> None:
    make(tmp_path / "old")
    out = tmp_path / "out"
    write_repository(out, Target.CPU, folders=[tmp_path / "old"])
    (out / "notes").mkdir()
    (shipped, *_) = write_repository(out, Target.CPU)
    assert not (out / "net").exists()
    assert (out / shipped.name / "config.pbtxt").is_file()
    assert (out / "notes").is_dir()


def test_the_configuration_names_backend_and_device_of_its_target(tmp_path: Path) -> None:
    make(tmp_path)
    cpu, gpu = (config(tmp_path, target, threads=3) for target in (Target.CPU, Target.GPU))
    assert (cpu.backend, gpu.backend) == ("python", "onnxruntime")
    groups = model_config_pb2.ModelInstanceGroup
    assert [(group.kind, group.count) for group in cpu.instance_group] == [(groups.KIND_CPU, 1)]
    assert [(group.kind, group.count) for group in gpu.instance_group] == [(groups.KIND_GPU, 1)]
    assert cpu.parameters["threads"].string_value == "3"
    assert "threads" not in gpu.parameters
    # Heuristic: which algorithm was faster today must not decide an answer's last digits.
    assert gpu.parameters["cudnn_conv_algo_search"].string_value == "1"
    for told in (cpu, gpu):
        assert told.HasField("dynamic_batching")
        assert told.dynamic_batching.max_queue_delay_microseconds == 0
        assert list(told.input[0].dims) == [-1, -1, -1]
        assert told.input[0].data_type == model_config_pb2.TYPE_INT16
        assert [item.name for item in told.output] == ["heat", "mean"]
        assert told.output[0].data_type == model_config_pb2.TYPE_FP16


def test_a_cards_serving_settings_hold_for_their_target(tmp_path: Path) -> None:
    make(
        tmp_path,
        serving={"gpu": {"instances": 2, "preferred_batch": [2, 4], "queue_delay_us": 500}},
    )
    cpu, gpu = (config(tmp_path, target) for target in (Target.CPU, Target.GPU))
    assert gpu.instance_group[0].count == 2
    assert list(gpu.dynamic_batching.preferred_batch_size) == [2, 4]
    assert gpu.dynamic_batching.max_queue_delay_microseconds == 500
    assert cpu.instance_group[0].count == 1
    assert not cpu.dynamic_batching.preferred_batch_size


def test_each_version_stands_beside_the_others_with_its_own_parameters(tmp_path: Path) -> None:
    for version in ("1", "2", "10"):
        make(tmp_path, version)
    written = write_repository(tmp_path / "out", Target.CPU, folders=[tmp_path])
    assert len(written) == 3
    told = config(tmp_path, Target.CPU)
    assert list(told.version_policy.specific.versions) == [1, 2, 10]
    for model in written:
        place = tmp_path / "out" / "net" / model.version
        assert (place / "model.onnx").read_bytes() == model.onnx.read_bytes()
        assert (place / "model.py").is_file()
        assert json.loads(told.parameters[f"card.{model.version}"].string_value) == {
            "family": "heatmap",
            "least_heat": int(model.version) / 10,
            "says": 'a "b"',
            "sha256": model.card["sha256"],
        }


def test_versions_that_do_not_share_their_tensors_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "1")
    make(tmp_path, "2", max_batch_size=8)
    with pytest.raises(ModelUnfit, match="versions 1 and 2 of model net differ in max_batch_size"):
        write_repository(tmp_path / "out", Target.GPU, folders=[tmp_path])


def test_a_file_that_is_not_its_cards_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    with (tmp_path / "net" / "1" / "model.onnx").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ModelUnfit, match="model net version 1 has not the checksum of its card"):
        write_repository(tmp_path / "out", Target.GPU, folders=[tmp_path])


def test_the_warm_up_is_one_request_of_zeros_in_the_cards_shape(tmp_path: Path) -> None:
    make(tmp_path, warm_up={"hu": (32, 24, 16)})
    for target in Target:
        (sample,) = config(tmp_path, target).model_warmup
        assert sample.batch_size == 1
        assert list(sample.inputs) == ["hu"]
        hu = sample.inputs["hu"]
        assert hu.zero_data
        assert hu.data_type == model_config_pb2.TYPE_INT16
        assert list(hu.dims) == [32, 24, 16]


def test_tensorrt_is_an_option_of_the_gpu_target_and_off_without_it(tmp_path: Path) -> None:
    make(tmp_path)
    assert not config(tmp_path, Target.GPU).HasField("optimization")
    assert not config(tmp_path, Target.CPU, tensorrt=True).HasField("optimization")
    (engine,) = config(
        tmp_path, Target.GPU, tensorrt=True
    ).optimization.execution_accelerators.gpu_execution_accelerator
    assert engine.name == "tensorrt"
    assert engine.parameters["precision_mode"] == "FP16"
