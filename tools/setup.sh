#!/bin/sh
# Installs what fasttail needs and is not there: Debian packages (as root or through sudo; else it names
# them and stops), a virtual environment, the package with its extras.
#   PYTHON=python3.11 VENV=.venv EXTRAS=ffcv,dali,dev sh tools/setup.sh
set -eu

PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}
EXTRAS=${EXTRAS:-}

say() { printf 'setup: %s\n' "$*" >&2; }

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    say "Python 3.11 or newer is needed; '$PYTHON' is not. Install it, or name one: make PYTHON=python3.11"
    exit 1
}

# A compiler and the headers of libjpeg-turbo are for fasttail's own decoder.
needed="gcc libc6-dev libjpeg-dev"
headers=""
# FFCV is built from source.
case ",$EXTRAS," in *,ffcv,*)
    needed="$needed g++ pkg-config libopencv-dev libturbojpeg0-dev"
    headers=yes
    ;;
esac
# For the tests: torch.compile needs a compiler too, shellcheck reads the shell scripts, iproute2 makes two
# hosts out of one, chromium looks at the pages, and ARM's part of the decoder runs in an emulator.
case ",$EXTRAS," in *,dev,*)
    needed="$needed g++ shellcheck iproute2 chromium gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
    headers=yes
    ;;
esac
# Python's headers and venv come with an interpreter that is not the distribution's.
if [ "$(command -v "$PYTHON")" = "/usr/bin/$(basename "$PYTHON")" ]; then
    version=$("$PYTHON" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    needed="$needed $version-venv${headers:+ $version-dev}"
fi

if command -v dpkg-query >/dev/null; then
    missing=""
    for package in $needed; do
        # libjpeg-dev and others may be provided under another name, which apt knows.
        status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
        [ "$status" = "install ok installed" ] || missing="$missing $package"
    done
    if [ -n "$missing" ]; then
        if [ "$(id -u)" = 0 ]; then
            as_root=""
        elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
            as_root="sudo"
        elif command -v sudo >/dev/null && [ -t 0 ]; then
            as_root="sudo"
        else
            say "these packages are missing and need root: apt-get install$missing"
            exit 1
        fi
        say "installing$missing"
        $as_root apt-get update -q
        # shellcheck disable=SC2086 # a list of names
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
    fi
else
    say "no Debian here: what its packages $needed hold is expected to be installed"
fi

[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
"$VENV/bin/python" -m pip install -qq --disable-pip-version-check --upgrade pip
package=.${EXTRAS:+[$EXTRAS]}
say "installing fasttail${package#.} into $VENV (a few minutes: torch is large)"
"$VENV/bin/python" -m pip install -qq --disable-pip-version-check --editable "$package"

# pip shows nothing of a build that goes on without the kernel.
reason=$("$VENV/bin/python" -c 'from fasttail import kernels; print(kernels.why_missing())')
[ -z "$reason" ] || say "fasttail's decoding kernel was LEFT OUT, photographs are read slowly: $reason"
