#!/bin/sh
# Compares the protos with those of the commit before (or of BUF_AGAINST, any git revision).
set -eu
cd "$(dirname "$0")/.."
against=${BUF_AGAINST:-HEAD~1}
if ! git rev-parse --verify --quiet "$against^{commit}" >/dev/null; then
  echo "buf breaking: no revision $against here, nothing to compare with"
  exit 0
fi
base=$(mktemp -d)
trap 'rm -rf "$base"' EXIT
if ! git archive "$against" protos 2>/dev/null | tar -x -C "$base"; then
  echo "buf breaking: $against has no protos, nothing to compare with"
  exit 0
fi
buf breaking protos --against "$base/protos"
echo "buf breaking: compatible with $against"
