# NVIDIA's Triton. Its full image has the ONNX Runtime backend with CUDA and TensorRT; the models come by
# the chart's init container, so this image holds none. From the root of the sources:
# docker build --file deploy/images/triton.Dockerfile --build-arg REGISTRY=… --tag lungmesh-triton:0.1.0 .
# REGISTRY: NVIDIA's, or a mirror of it. Pin BASE by its digest where images are built for use.
ARG REGISTRY
ARG BASE=nvidia/tritonserver:25.09-py3
FROM ${REGISTRY}/${BASE}
# On CPU nodes the models run in Triton's Python backend, which needs these and this path
# (models/onnx_python_backend.py).
RUN python3 -m pip install --no-cache-dir --target /opt/lungmesh onnxruntime==1.32.0
ENV PYTHONPATH=/opt/lungmesh HOME=/tmp
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["tritonserver"]
