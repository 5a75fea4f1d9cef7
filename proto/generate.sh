#!/bin/sh
# Generates the Python code of the contracts.
#   proto/generate.sh [OUT]    OUT: where `ldcq/v1` is written; without it in the repository
# The tools' versions are pinned in pyproject.toml: the code names the one that made it.
set -eu
folder=$(cd "$(dirname "$0")" && pwd)
out=${1:-$folder/..}
bin=${BIN:-$folder/../.venv/bin}
cd "$folder"
PATH="$bin:$PATH" "$bin/python" -m grpc_tools.protoc -I . \
  --python_out="$out" --mypy_out="$out" \
  --grpc_python_out="$out" --mypy_grpc_out="$out" \
  ldcq/v1/*.proto
