#!/bin/sh
# Installs what the end-to-end tests run: real initiators, image tools, a file system maker.
#
# qemu-utils and qemu-block-extra must come from one suite: block-iscsi.so refuses to load into another build.
# Services must not start while packages are configured. Needs root; does nothing when everything is there.
set -eu

have() { command -v "$1" >/dev/null 2>&1; }
block_iscsi() { ls /usr/lib/*/qemu/block-iscsi.so >/dev/null 2>&1 && qemu-img --help 2>/dev/null | grep -q iscsi; }
same_version() {
    a=$(dpkg-query -W -f '${Version}' qemu-utils 2>/dev/null || true)
    b=$(dpkg-query -W -f '${Version}' qemu-block-extra 2>/dev/null || true)
    [ -n "$a" ] && [ "$a" = "$b" ]
}

if have qemu-io && have iscsi-inq && have mke2fs && have python3 && have openssl && same_version && block_iscsi; then
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "install.sh: needs root to install qemu-utils qemu-block-extra libiscsi-bin e2fsprogs python3 openssl" >&2
    exit 1
fi

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
version=$(apt-cache policy qemu-block-extra | sed -n 's/ *Candidate: //p')
apt-get install -q -y --no-install-recommends --allow-downgrades \
    "qemu-utils=$version" "qemu-block-extra=$version" libiscsi-bin e2fsprogs python3 openssl
