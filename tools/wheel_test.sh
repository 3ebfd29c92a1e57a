#!/usr/bin/env bash
# Builds the wheel from this checkout, installs it alone into an environment of its own, and runs it far from the checkout:
# the command, the data files and the compiled delegate are in it. Its dependencies are those of .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$PWD/.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# In the folder of `make native`, where the sources are compiled already.
"$python" -m pip wheel --disable-pip-version-check --quiet --no-deps --no-build-isolation --wheel-dir "$work" \
  --config-settings=build-dir=build/native/host --config-settings=cmake.define.TFQ_TESTS=ON \
  --config-settings=cmake.define.TFQ_CROSS_ARM64=OFF --config-settings=build.targets='tfq_int4_delegate;tfq_runner' .
"$python" -m venv --without-pip "$work/venv"
"$python" -m pip --python "$work/venv/bin/python" install --disable-pip-version-check --quiet --no-deps "$work"/tfq-*.whl
"$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
  >"$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dependencies.pth"

cd "$work"
PATH=$work/venv/bin:$PATH
tfq --version
tfq recipes static_wi4_ai8 >/dev/null
python - "$work/venv" <<'END'
import sys
from importlib import resources
from pathlib import Path

import android_bench
import tfq_pipeline
from tfq_pipeline import delegate, native

for path in (tfq_pipeline.__file__, android_bench.__file__, native.library(), native.runner()):
    assert Path(path).is_relative_to(sys.argv[1]), path
assert native.runner().stat().st_mode & 0o111, "the runner cannot be executed"
for package, name in (("tfq_pipeline.report", "page.html.j2"), ("android_bench.emulator", "shim.cc")):
    assert (resources.files(package) / name).is_file(), name
delegate.load()
END
printf '%s holds the tfq command, the runner and a delegate that loads\n' "$(basename "$work"/tfq-*.whl)"
