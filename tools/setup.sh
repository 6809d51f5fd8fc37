#!/bin/sh
# Installs what is missing for demo, run and test, and nothing else: the locked dependencies and
# tortxd itself into .venv, and tor from the system's packages. Quick when everything is there.
#
# usage: tools/setup.sh [--run] [PROGRAM[:PACKAGE]...]
#
#   --run       what running needs, without the tools of development; and curl, for the commands to try
#   PROGRAM     further system programs that are needed, as strace, or files, as /usr/include/zlib.h
#
# PYTHON in the environment names the Python to use; without it, a recent one is looked for.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
run_lock=requirements.lock
dev_lock=requirements-dev.lock
lock=$dev_lock
if [ "${1:-}" = --run ]; then
    lock=$run_lock
    shift
fi

fail() {
    printf 'tortxd: %s\n' "$*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# The same for what may be a file, whose path is given.
have_or_exists() {
    have "$1" || { [ "${1#/}" != "$1" ] && [ -e "$1" ]; }
}

recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# --- progress -------------------------------------------------------------------------------------

log=$(mktemp)
reporter=
finish() {
    [ -z "$reporter" ] || kill "$reporter" 2>/dev/null || :
    rm -f "$log" "$log.going"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Once a second, what the function named $1 prints of the log: written over in a terminal, elsewhere
# a line whenever it has got further by a quarter. It prints "WHAT SO_FAR of ALL".
report() {
    shown=
    while sleep 1 >/dev/null 2>&1 && [ -e "$log.going" ] && kill -0 $$ 2>/dev/null; do
        line=$("$1")
        [ -n "$line" ] || continue
        if [ -t 1 ]; then
            printf '\r\033[K%s' "  $line"
            continue
        fi
        all=${line##* } so_far=${line% of *}
        step="${line%% *} $((4 * ${so_far##* } / (all > 0 ? all : 1)))"
        [ "$step" = "$shown" ] || printf '%s\n' "  $line"
        shown=$step
    done
}

# Runs a command with its output in the log, and says meanwhile how far it is.
reported() {
    teller=$1
    shift
    : >"$log" >"$log.going"
    report "$teller" &
    reporter=$!
    status=0
    "$@" >"$log" || status=$?
    # A signal that comes while the shell forks can be lost: then the file that is gone ends it.
    rm -f "$log.going"
    kill "$reporter" 2>/dev/null || :
    wait "$reporter" 2>/dev/null || :
    reporter=
    [ ! -t 1 ] || printf '\r\033[K'
    return "$status"
}

lines() {
    grep -Ec "$1" "$log" || :
}

# --- which Python ---------------------------------------------------------------------------------

if [ -n "${PYTHON:-}" ]; then
    have "$PYTHON" || fail "PYTHON=$PYTHON: there is no such program."
    version=$("$PYTHON" -c 'import platform; print(platform.python_version())' 2>/dev/null) || version=
    [ -n "$version" ] || fail "PYTHON=$PYTHON is not a Python that works."
    recent "$PYTHON" || fail "PYTHON=$PYTHON is Python $version. tortxd needs 3.11 or newer."
fi

# A virtualenv holds the absolute path that it was made at, so that a moved one is made anew.
wanted_lock() { pwd && cat "$1"; }
wanted_project() { cat pyproject.toml setup.py tortxd/_version.py; }

holds() {
    wanted_lock "$1" | cmp -s - .venv/installed-lock
}

# Whether .venv is of the Python that was asked for, if one was.
of_this_python() {
    [ -n "${PYTHON:-}" ] || return 0
    which='import sys; print(sys.version, sys.base_prefix)'
    [ "$("$PYTHON" -c "$which")" = "$(.venv/bin/python -c "$which")" ]
}

# What is to be done to .venv: nothing, "add" (the tools of development to what running needs), or
# "make". One that has the tools has all that running needs.
todo=make
if recent .venv/bin/python && of_this_python; then
    if holds "$lock" || holds "$dev_lock"; then
        todo=
    elif holds "$run_lock"; then
        todo=add
    fi
fi

# --- what the system must have --------------------------------------------------------------------

missing=
have tor && have tor-gencert || missing="$missing tor"
if have apt-get; then
    [ -e /usr/share/tor/geoip ] || missing="$missing tor-geoipdb"
    [ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
fi
for wanted in "$@"; do
    have_or_exists "${wanted%%:*}" || missing="$missing ${wanted##*:}"
done

if [ "$todo" = make ]; then
    python=
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
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

# Only the commands that people are told to try need curl: it goes without, where it must.
needed=$missing
if [ "$lock" = "$run_lock" ] && have apt-get && ! have curl; then
    missing="$missing curl"
fi

go_without() {
    [ -z "$needed" ] || fail "$*"
    printf 'tortxd: %s\n' "$*" >&2
}

system_progress() {
    all=$(sed -n 's/.* \([0-9]*\) newly installed.*/\1/p' "$log")
    if [ -n "$all" ]; then
        ready=$(lines '^Setting up ')
        [ "$ready" != 0 ] && echo "set up $ready of $all" || echo "loaded $(lines '^Get:') of $all"
    fi
}

# One shell for both steps, so that sudo asks for the password once. Its first word shows that it
# has become root. Package lists that cannot be renewed do no harm where there are some.
as_root() {
    # shellcheck disable=SC2016 # they are the other shell's
    $sudo sh -c 'echo root; export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq 2>&1
        exec apt-get install -q -y --no-install-recommends "$@" 2>&1' sh "$@"
}

install_system_packages() {
    if ! have apt-get; then
        go_without "These are missing:$missing. Install them with the system's package manager, then try again."
        return
    fi
    by_hand="apt-get update && apt-get install --no-install-recommends$missing"
    sudo=
    if [ "$(id -u)" != 0 ]; then
        if ! have sudo || { [ ! -t 0 ] && ! sudo -n true 2>/dev/null; }; then
            go_without "These packages are missing, and only root can install them. As root: $by_hand"
            return
        fi
        sudo=sudo
    fi
    echo "Installing from the system's packages:$missing"
    # shellcheck disable=SC2086 # a list of words
    if reported system_progress as_root $missing; then
        return
    fi
    if ! grep -qx root "$log"; then
        go_without "sudo was refused, so these packages are still missing. As root: $by_hand"
        return
    fi
    reason=$(sed -n 's/^[EW]: Failed to fetch [^ ]*  *//p' "$log" | tail -n 1)
    if [ -n "$reason" ]; then
        go_without "The system's packages could not be fetched ($reason). These are missing:$missing. Check this machine's connection, then try again."
    else
        grep '^E: ' "$log" >&2 || tail -n 5 "$log" >&2
        go_without "These packages could not be installed:$missing. Install them, then try again."
    fi
}

[ -z "$missing" ] || install_system_packages

# --- .venv ----------------------------------------------------------------------------------------

# Both locks are whole: pip has nothing to find out about what else is needed. To compile all modules
# takes longer than to compile those that are used, when they first are. But tests have warnings as
# errors, which must not be those of compiling other people's modules.
pip_install() {
    .venv/bin/python -m pip install --disable-pip-version-check --no-input --no-deps "$@" 2>&1
}

packages() {
    find .venv/lib -maxdepth 3 -name '*.dist-info' | wc -l
}

collected() {
    lines '^(Collecting |Processing |Requirement already satisfied: )'
}

pip_progress() {
    new=$(lines '^(Collecting|Processing) ')
    if grep -q '^Installing collected packages' "$log"; then
        ready=$(($(packages) - before))
        echo "installed $((ready > 0 ? ready : 0)) of $new"
    else
        all=$(($(grep -c '^[a-z].*==' "$lock") - $(lines '^Ignoring ')))
        echo "loaded $(collected) of $all"
    fi
}

pip_failed() {
    reason=$(sed -n 's/.*connection broken by .\([A-Za-z]*Error(.*\).: [^ ]*$/\1/p' "$log" | tail -n 1)
    if [ -n "$reason" ]; then
        reason=$(printf '%s' "$reason" | sed "s/.*object at 0x[0-9a-f]*>[:,] *//; s/[\"')]*\$//; s/^[\"']//")
        index=$(sed -n 's/^Looking in indexes: //p' "$log")
        fail "The Python package index${index:+, $index,} could not be reached ($reason). Check this machine's connection, then try again."
    fi
    grep '^ERROR: ' "$log" >&2 || tail -n 5 "$log" >&2
    fail "The Python packages could not be installed. Their versions are those of $lock."
}

# Where nothing answers, pip would try for minutes.
export PIP_RETRIES="${PIP_RETRIES:-2}"
if [ -n "$todo" ]; then
    echo "Installing Python packages into .venv, as $lock names them"
    if [ "$todo" = make ]; then
        "$python" -m venv --clear .venv || fail "A virtual environment could not be made with $python."
    fi
    before=$(packages)
    reported pip_progress pip_install --no-compile --requirement "$lock" || pip_failed
    if [ "$lock" = "$dev_lock" ]; then
        .venv/bin/python -m compileall -qq -j 0 .venv/lib >/dev/null 2>&1 || :
    fi
    echo "  all $(collected) are there"
    wanted_lock "$lock" >.venv/installed-lock
fi
if ! wanted_project | cmp -s - .venv/installed-project; then
    # Built with the locked setuptools, not with whatever is newest.
    pip_install --no-build-isolation --editable . >"$log" || pip_failed
    wanted_project >.venv/installed-project
fi
