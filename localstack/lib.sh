# Sourced by the scripts of this folder: where things are, and how to say so.
#   GUST_LOCALSTACK_CACHE  venvs and jars       (default: ${XDG_CACHE_HOME:-~/.cache}/gust/localstack)
#   GUST_LOCALSTACK_STATE  pid, log, endpoint   (default: $GUST_LOCALSTACK_CACHE/state)
#   GUST_LOCALSTACK_PORT   edge port, 0 = any   (default: 4566)
#   GUST_LOCALSTACK_WAIT   seconds to wait for it to be ready (default: 180)
#   GUST_LOCALSTACK_MODE   auto, process or docker (default: auto: docker if it has the images, else process)
#   HOSTKIT_PYTHON         interpreter of python3.13 functions (default: a 3.13 if one is found, else 3.11)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${GUST_LOCALSTACK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gust/localstack}
state=${GUST_LOCALSTACK_STATE:-$cache/state}
venv=$cache/venv
lambda_python=$cache/lambda-python
docker_images=(localstack/localstack:4.9.2 public.ecr.aws/lambda/provided:al2023 public.ecr.aws/lambda/python:3.13)

say() { printf '[localstack] %s\n' "$*" >&2; }
die() { printf '[localstack] error: %s\n' "$*" >&2; exit 1; }

# took SECONDS-at-start: "12 s"
took() { printf '%d s' "$((SECONDS - $1))"; }

# retry COMMAND...: registries fail now and then
retry() {
  local n
  for n in 1 2 3; do
    "$@" && return 0
    [ "$n" = 3 ] || { say "that failed; again in $((n * 5)) s: $*"; sleep "$((n * 5))"; }
  done
  return 1
}

# find_python 3.13: the path of an interpreter of that version that starts, or nothing
find_python() {
  local candidate
  for candidate in "$(command -v "python$1" || true)" \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/"python$1" \
    "$(command -v uv >/dev/null && uv python find --no-python-downloads "$1" 2>/dev/null || true)" \
    "$(command -v python3 || true)"; do
    [ -n "$candidate" ] && [ -x "$candidate" ] || continue
    if [ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$1" ]; then
      "$candidate" -c 'import sys; print(sys.executable)'; return 0
    fi
  done
}

health() { curl -fsS --noproxy '*' --max-time 5 "$1/_localstack/health" 2>/dev/null; }

# is_ours PID: the pid may have been used again since; it must still be our command
is_ours() { tr '\0' ' ' < "/proc/$1/cmdline" 2>/dev/null | grep -q 'localstack.runtime.main'; }
