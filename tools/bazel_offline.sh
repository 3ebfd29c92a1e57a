#!/usr/bin/env bash
# Writes build/offline.bazelrc: `--config=offline` puts local folders in the place of the repositories that Bazel 4 would
# download. Bazel 4 takes no paths relative to the workspace, hence a written file.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build
override() { printf 'common:offline --override_repository=%s=%s\n' "$1" "$2"; }
{
  override rules_cc "$PWD/third_party/bazel/rules_cc"
  override remote_coverage_tools "$PWD/third_party/bazel/remote_coverage_tools"
  override rules_java /usr/share/bazel/rules/java
  override rules_proto /usr/share/bazel/rules/proto
} >build/offline.bazelrc
