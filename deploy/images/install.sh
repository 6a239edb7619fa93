#!/bin/sh
# What the image of the services holds: install.sh SOURCES INTO
# The tests run these lines too, in a clean environment (tests/integration/deploy).
set -eu
sources=$1 into=$2
python=${PYTHON:-python3.11}

"$python" -m venv "$into.build"
"$into.build/bin/python" -m pip wheel --quiet --no-deps --wheel-dir "$into.wheel" "$sources"
"$python" -m venv --without-pip "$into"
# PIP_OPTIONS: the tests have no need to fetch every dependency again.
"$into.build/bin/python" -m pip --python "$into/bin/python" install --quiet --no-cache-dir --no-compile \
    ${PIP_OPTIONS:-} --constraint "$sources/constraints.txt" "$into.wheel"/lungmesh-*.whl
"$into/bin/python" -m compileall -q "$into/lib"
rm -r "$into.build" "$into.wheel"
