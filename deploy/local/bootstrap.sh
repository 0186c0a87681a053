# Sourced by `run` and `test`: makes .venv hold what a lock file says. POSIX sh; needs Python 3.11 or newer and its pip.
#
# in:  $root, the checkout. out: $python, the interpreter to use.
# shellcheck shell=sh

say() { printf 'safekeep: %s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}

# The first interpreter that runs and is new enough; a version manager's stand-in may exist and not run.
find_python() {
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

is_installed() { # is_installed LINE: whether the environment works and was made from this lock
    [ -f "$venv/installed" ] && grep -qxF "$1" "$venv/installed" && "$venv/bin/python" -c pass 2>/dev/null
}

lock_or_wait() {
    if command -v flock >/dev/null 2>&1; then
        exec 9>"$root/.venv.lock"
        flock 9
        return
    fi
    # A directory as a lock: making one is atomic everywhere.
    until mkdir "$root/.venv.lock.d" 2>/dev/null; do
        holder=$(cat "$root/.venv.lock.d/pid" 2>/dev/null || echo)
        if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; then
            rm -rf "$root/.venv.lock.d"
        else
            sleep 1
        fi
    done
    echo $$ >"$root/.venv.lock.d/pid"
}

unlock() {
    if command -v flock >/dev/null 2>&1; then exec 9>&-; else rm -rf "$root/.venv.lock.d"; fi
}

make_environment() {
    base=$(find_python) || die "Python 3.11 or newer is needed, and no python3 on the PATH is that"
    if ! "$venv/bin/python" -c pass 2>/dev/null; then
        rm -rf "$venv"
        # Debian leaves out what makes pip inside the environment; then the system's pip does the installing.
        "$base" -m venv "$venv" >/dev/null 2>&1 || {
            rm -rf "$venv"
            "$base" -m venv --without-pip "$venv" || die "no virtual environment could be made in $venv"
        }
    fi
    if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        set -- "$venv/bin/python" -m pip
    else
        "$base" -m pip --version >/dev/null 2>&1 || die "pip is needed: on Debian, the package python3-pip"
        set -- "$base" -m pip --python "$venv/bin/python"
    fi
    # PIP_USER would send packages elsewhere; the user's index settings stay in force.
    PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 "$@" install --quiet --require-hashes --only-binary=:all: \
        --no-warn-script-location -r "$root/$lock" >"$venv/install.log" 2>&1 || {
        cat "$venv/install.log" >&2
        die "the packages of $lock could not be installed (see above; is the package index reachable?)"
    }
}

bootstrap() { # bootstrap LOCK [LARGER_LOCK]: a larger lock that is installed serves as well
    unset PYTHONHOME
    venv=$root/.venv
    python=$venv/bin/python
    # `-P` keeps the current directory off the path, where a folder called `api` would be found before ours.
    export PYTHONPATH="$root" PYTHONSAFEPATH=1
    for lock in "$@"; do
        line="$lock $(cksum <"$root/$lock")"
        is_installed "$line" && return
    done
    lock=$1
    line="$lock $(cksum <"$root/$lock")"
    lock_or_wait
    if ! is_installed "$line"; then
        say "installing the packages of $lock into .venv; once, about a minute"
        make_environment
        # Lines of other locks that are still in force are kept: nothing that they installed was removed.
        { grep -vF "$lock " "$venv/installed" 2>/dev/null || true; echo "$line"; } >"$venv/installed.new"
        mv "$venv/installed.new" "$venv/installed"
    fi
    unlock
}
