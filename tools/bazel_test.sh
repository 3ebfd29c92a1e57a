#!/usr/bin/env bash
# `bazel test //...` without a network, where Bazel is installed; leaves no server behind.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v bazel >/dev/null; then
  echo "no bazel: the Bazel build was not tested (Debian: bazel-bootstrap bazel-rules-java bazel-rules-proto)"
  exit 0
fi
tools/bazel_offline.sh
# An output folder of its own keeps the server and the results apart from those of other checkouts.
bazel=(bazel --output_user_root="$PWD/build/bazel-root")
trap '"${bazel[@]}" shutdown' EXIT
"${bazel[@]}" test --config=offline --noshow_progress --jobs="$(nproc)" \
  //... //examples/fashion_mnist:mobilenet_wi4_gate
if command -v aarch64-linux-gnu-g++ >/dev/null; then
  "${bazel[@]}" build --config=offline --config=linux_arm64 --noshow_progress --jobs="$(nproc)" \
    //delegates/int4:libtfq_int4_delegate.so //android_bench/runner:tfq_runner
fi
