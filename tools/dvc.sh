#!/bin/sh
# DVC without activation, and wherever the project lies: `make` puts this in place of pip's .venv/bin/dvc, which has the
# environment's whole path in it and leaves the `python` of stages, and the `dvc` of queued runs, to the shell's PATH.
# What DVC says of two things in words that do not help, it says first.

here=$(dirname -- "$(readlink -f -- "$0" 2> /dev/null || echo "$0")")
here=$(cd -- "$here" && pwd) || exit
PATH="$here:$PATH"
export PATH

refuse() {
    echo "dvc: $1" >&2
    exit 1
}

check_name() {
    git -c user.useConfigOnly=true var GIT_COMMITTER_IDENT > /dev/null 2>&1 ||
        refuse "an experiment is a Git commit, and Git does not know your name; first: git config user.name 'Your Name' && git config user.email you@example.com"
}

check_path() {
    case "$(pwd -P | LC_ALL=C tr -d ' -~\n')" in
    ?*) refuse "queued and temporary runs fail below a folder whose name is not in ASCII (DVC's own limit); rename it, or run without --queue and --temp" ;;
    esac
}

case "${1-} ${2-}" in
"exp run" | "experiments run")
    check_name
    for argument in "$@"; do
        case "$argument" in --queue | --temp | --run-all) check_path ;; esac
    done
    ;;
"queue start") check_path ;;
esac
exec "$here/python" -m dvc "$@"
