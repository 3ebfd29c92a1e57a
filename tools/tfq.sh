#!/usr/bin/env bash
# The `tfq` command for Bazel: that of the checkout which this file belongs to, else the one on PATH.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
tfq=$here/../.venv/bin/tfq
[ -x "$tfq" ] || tfq=$(command -v tfq) || {
  echo "no tfq command: run \`make setup\` in the checkout of tfq, or put tfq on PATH" >&2
  exit 2
}
exec "$tfq" "$@"
