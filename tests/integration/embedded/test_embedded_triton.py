"""The embedded Triton with several models, versions and shapes, over gRPC and shared memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException
from tritonclient.utils import shared_memory as shm

from lungmesh.embedded import probe
from lungmesh.embedded.models import Model, read_models, user_folder, write_card
from tests.support.triton import running_triton, write_network

NET = "test_net"
# By version.
GAINS = {"1": 1.0, "2": 3.0}


def make(folder: Path, version: str, gain: float, **changed: Any) -> Model:
    divisor = changed.pop("divisor", 2)
    return write_card(
        write_network(folder / NET / version / "model.onnx", gain, divisor),
        **{
            "title": "A test network",
            "description": "",
            "made_by": "the tests",
            "intended_use": {},
            "max_batch_size": 3,
            "parameters": {"family": "heatmap", "gain": gain},
            "shapes": {"hu": (16, 24, 8)},
            **changed,
        },
    )


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[triton.InferenceServerClient]:
    """A Triton with the shipped models and two versions of a small one, imported."""
    root = tmp_path_factory.mktemp("triton")
    for version, gain in GAINS.items():
        make(user_folder(root), version, gain)
    with running_triton(root) as address:
        client = triton.InferenceServerClient(address)
        yield client
        client.close()


@pytest.fixture(scope="module", autouse=True)
def runs_before_requests(client: triton.InferenceServerClient) -> dict[tuple[str, str], int]:
    """How often each version has run when nobody has asked yet."""
    statistics = client.get_inference_statistics(as_json=True)["model_stats"]
    return {
        (item["name"], item["version"]): int(item["inference_stats"]["success"]["count"])
        for item in statistics
    }


def ask(
    client: triton.InferenceServerClient, model: str, version: str, **arrays: np.ndarray
) -> triton.InferResult:
    inputs = []
    for name, array in arrays.items():
        kind = {"int16": "INT16", "float32": "FP32"}[array.dtype.name]
        inputs.append(triton.InferInput(name, array.shape, kind))
        inputs[-1].set_data_from_numpy(array)
    return client.infer(model, inputs, model_version=version)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(-1000, 400, shape, np.int16)


def pooled(hu: np.ndarray, gain: float) -> np.ndarray:
    """Return what the small network computes, in double precision."""
    n, d, h, w = hu.shape
    blocks = hu.reshape(n, d // 2, 2, h // 2, 2, w // 2, 2).mean(axis=(2, 4, 6))
    return np.asarray(blocks * gain / 1000)


def test_a_version_was_warmed_up_before_it_was_ready(
    runs_before_requests: dict[tuple[str, str], int],
) -> None:
    assert {(NET, version) for version in GAINS} < runs_before_requests.keys()
    assert set(runs_before_requests.values()) == {1}


def test_each_shipped_version_answers_its_probe_through_triton(
    client: triton.InferenceServerClient,
) -> None:
    for model in read_models():
        arrays = probe.feed(model.card["inputs"], probe.from_card(model.card))
        answer = ask(client, model.name, model.version, **arrays)
        names = [item["name"] for item in model.card["outputs"]]
        assert not probe.difference(model.card, {name: answer.as_numpy(name)[0] for name in names})


@pytest.mark.parametrize(("version", "gain"), GAINS.items())
def test_versions_stand_side_by_side_with_weights_and_parameters_of_their_own(
    client: triton.InferenceServerClient, version: str, gain: float
) -> None:
    hu = noise(1, 8, 8, 8)
    heat = ask(client, NET, version, hu=hu).as_numpy("heat")
    np.testing.assert_allclose(heat, pooled(hu, gain), atol=2e-3)
    config = client.get_model_config(NET, version, as_json=True)["config"]
    told = json.loads(config["parameters"][f"card.{version}"]["string_value"])
    assert told["gain"] == gain
    assert len(told["sha256"]) == 64


@pytest.mark.parametrize("shape", [(8, 8, 8), (24, 16, 40), (16, 24, 8)])
def test_every_request_chooses_its_shape_and_gets_every_output(
    client: triton.InferenceServerClient, shape: tuple[int, int, int]
) -> None:
    hu = noise(1, *shape)
    answer = ask(client, NET, "1", hu=hu)
    heat, mean = answer.as_numpy("heat"), answer.as_numpy("mean")
    assert (heat.dtype, mean.dtype) == (np.float16, np.float32)
    assert heat.shape == (1, *(size // 2 for size in shape))
    np.testing.assert_allclose(heat, pooled(hu, 1.0), atol=1e-3)
    np.testing.assert_allclose(mean, [[hu.mean() / 1000]], atol=1e-5)


def test_what_else_is_in_a_batch_changes_no_answer(client: triton.InferenceServerClient) -> None:
    hu = noise(3, 16, 8, 24)
    together = ask(client, NET, "2", hu=hu)
    for index in range(3):
        alone = ask(client, NET, "2", hu=hu[index : index + 1])
        for name in ("heat", "mean"):
            assert np.array_equal(together.as_numpy(name)[index], alone.as_numpy(name)[0])


def test_a_shape_that_the_network_refuses_is_this_requests_error_alone(
    client: triton.InferenceServerClient,
) -> None:
    with pytest.raises(InferenceServerException, match="reshape"):
        ask(client, NET, "1", hu=noise(1, 8, 8, 7))
    assert ask(client, NET, "1", hu=noise(1, 8, 8, 8)).as_numpy("heat").shape == (1, 4, 4, 4)


def test_tensors_pass_by_shared_memory_both_ways(client: triton.InferenceServerClient) -> None:
    hu = noise(1, 16, 16, 16)
    expected = ask(client, NET, "1", hu=hu).as_numpy("heat")
    region = shm.create_shared_memory_region("test", "/lungmesh_test", hu.nbytes + expected.nbytes)
    try:
        client.register_system_shared_memory("test", "/lungmesh_test", hu.nbytes + expected.nbytes)
        shm.set_shared_memory_region(region, [hu])
        given = triton.InferInput("hu", hu.shape, "INT16")
        given.set_shared_memory("test", hu.nbytes)
        wanted = triton.InferRequestedOutput("heat")
        wanted.set_shared_memory("test", expected.nbytes, offset=hu.nbytes)
        answer = client.infer(NET, [given], model_version="1", outputs=[wanted])
        assert answer.get_output("heat").shape == list(expected.shape)
        found = shm.get_contents_as_numpy(region, np.float16, expected.shape, offset=hu.nbytes)
        assert np.array_equal(found, expected)
        client.unregister_system_shared_memory("test")
    finally:
        shm.destroy_shared_memory_region(region)


def test_a_network_that_refuses_its_warm_up_is_not_served(tmp_path: Path) -> None:
    make(user_folder(tmp_path), "1", 1.0, divisor=8, warm_up={"hu": (16, 16, 12)})
    with (
        pytest.raises(AssertionError, match="Triton ended"),
        running_triton(tmp_path),
    ):
        pass
    assert NET in (tmp_path / "logs" / "triton.log").read_text()
