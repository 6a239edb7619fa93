"""Triton Python backend that runs a version's model.onnx with ONNX Runtime on the CPU.

The embedded Triton has no ONNX Runtime backend of its own; on NVIDIA's image that backend runs the
same model.onnx instead. Input and output names come from config.pbtxt; shapes from each request.

Arrays pass by DLPack: the backend was built before NumPy 2 and misreads the strides of the arrays
that its `as_numpy` makes and the size of those that it is given.
"""

import ctypes
import json
import os
import sys
from pathlib import Path

# The backend's own interpreter runs isolated and does not read PYTHONPATH by itself.
sys.path += os.environ["PYTHONPATH"].split(os.pathsep)

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Called by Triton; one object an instance."""

    def initialize(self, args):
        """Load the model."""
        config = json.loads(args["model_config"])
        self._inputs = [item["name"] for item in config["input"]]
        self._outputs = [item["name"] for item in config["output"]]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(config["parameters"]["threads"]["string_value"])
        options.inter_op_num_threads = 1
        # Waiting threads must not take the core of the process that prepares the next tile.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        folder = Path(args["model_repository"]) / args["model_version"]
        self._session = onnxruntime.InferenceSession(
            folder / "model.onnx", options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests):
        """Answer each request.

        One item of a batch at a time: batching gains nothing on a CPU, costs memory, and so no
        result can depend on what else was in the batch.
        """
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            arrays = {
                name: np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name))
                for name in self._inputs
            }
            count = len(next(iter(arrays.values())))
            parts = [
                self._session.run(
                    self._outputs, {name: array[i : i + 1] for name, array in arrays.items()}
                )
                for i in range(count)
            ]
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        return pb_utils.InferenceResponse(
            [
                _to_triton(name, _joined([part[k] for part in parts]))
                for k, name in enumerate(self._outputs)
            ]
        )


def _joined(arrays):
    # Most requests hold one item, and its answer need not be copied.
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


_TAKEN = b"used_dltensor"


def _to_triton(name, array):
    capsule = array.__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    # The backend marks a taken capsule by a name of its own, of which NumPy complains.
    ctypes.pythonapi.PyCapsule_SetName(ctypes.py_object(capsule), _TAKEN)
    return tensor
