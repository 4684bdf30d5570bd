#!/usr/bin/env bash
# Installs moto, an emulator of AWS services that has ECS, and prints the path of its server. Safe to repeat. Needs python3
# with venv; downloads from PyPI only. GUST_MOTO_CACHE is where it goes (default: below the user's cache folder).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${GUST_MOTO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gust/moto}
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if ! cmp -s "$here/requirements.lock" "$cache/installed"; then
  rm -rf "$cache/venv" "$cache/installed"
  "${PYTHON:-python3}" -m venv "$cache/venv"
  "$cache/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$here/requirements.lock" >&2
  cp "$here/requirements.lock" "$cache/installed"
fi
echo "$cache/venv/bin/moto_server"
