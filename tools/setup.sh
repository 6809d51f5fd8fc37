#!/bin/sh
# Installs what is missing for demo, run and test, and nothing else: the locked dependencies and
# tortxd itself into .venv, and tor from the system's packages. Quick when everything is there.
#
# usage: tools/setup.sh [PROGRAM[:PACKAGE]...]     further system programs that are needed, as strace
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
lock=requirements-dev.lock

fail() {
    printf 'tortxd: %s\n' "$*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# A virtualenv holds the absolute path that it was made at, so that a moved one is made anew.
wanted_lock() { pwd && cat "$lock"; }
wanted_project() { cat pyproject.toml setup.py tortxd/_version.py; }

# --- what the system must have --------------------------------------------------------------------

missing=
have tor && have tor-gencert || missing="$missing tor"
if have apt-get; then
    [ -e /usr/share/tor/geoip ] || missing="$missing tor-geoipdb"
    [ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
fi
for wanted in "$@"; do
    have "${wanted%%:*}" || missing="$missing ${wanted##*:}"
done

python=
if ! recent .venv/bin/python || ! wanted_lock | cmp -s - .venv/installed-lock; then
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if recent "$candidate"; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] || fail "Python 3.11 or newer is needed. Install it, or name it: make PYTHON=/path/to/python3 ..."
    if ! "$python" -c 'import venv; from ensurepip import bootstrap' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        missing="$missing python$version-venv"
    fi
fi

if [ -n "$missing" ]; then
    have apt-get || fail "These are missing:$missing. Install them with the system's package manager, then try again."
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif have sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        as_root=sudo
    else
        fail "These packages are missing, and only root can install them: apt-get install$missing"
    fi
    echo "Installing from the system's packages:$missing"
    $as_root apt-get update -qq || echo "The package lists could not be renewed; trying with those that are there."
    # shellcheck disable=SC2086 # a list of words
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null ||
        fail "These packages could not be installed:$missing. Install them, then try again."
fi

# --- .venv ----------------------------------------------------------------------------------------

pip_install() {
    .venv/bin/python -m pip install -qq --disable-pip-version-check --no-input "$@"
}

if [ -n "$python" ]; then
    echo "Installing the locked dependencies into .venv"
    "$python" -m venv --clear .venv
    pip_install --requirement "$lock"
    wanted_lock >.venv/installed-lock
fi
if ! wanted_project | cmp -s - .venv/installed-project; then
    # Built with the locked setuptools, not with whatever is newest.
    pip_install --no-deps --no-build-isolation --editable .
    wanted_project >.venv/installed-project
fi
