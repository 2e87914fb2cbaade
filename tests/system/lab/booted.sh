#!/bin/sh
# Boots systemd in a root of its own: an overlay of the machine's `/` whose changes stay in memory and end with it.
# Usage, as root in a new mount namespace, which takes all mounts along when it ends:
#   booted.sh boot NAME LAYERS NETWORK   becomes systemd-nspawn; LAYERS are those of an overlay at /opt, "a:b:", or ""
#   booted.sh clean NAME                removes what a boot leaves in the kernel: empty cgroups
#   booted.sh layer LOWER UPPER WORK COMMAND...   runs COMMAND with the overlay at /opt; what it writes stays in UPPER
set -eu
what=$1
name=$2
mount --make-rprivate /
# Controllers that the machine has bound to version 1 are missing here: memory, as a rule.
own_cgroups() {
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    cgroup=/sys/fs/cgroup/$name
}
case $what in
boot)
    own_cgroups
    mkdir "$cgroup"
    echo $$ >"$cgroup/cgroup.procs"
    mount -t tmpfs -o mode=755 tmpfs /mnt
    mkdir /mnt/changes /mnt/work /mnt/root /mnt/opt-changes /mnt/opt-work
    mount -t overlay -o lowerdir=/,upperdir=/mnt/changes,workdir=/mnt/work overlay /mnt/root
    cd /mnt/root
    # The layers lie somewhere below `/`, so they can't be layers of the same overlay.
    [ -z "$3" ] || mount -t overlay -o "lowerdir=$3/opt,upperdir=/mnt/opt-changes,workdir=/mnt/opt-work" overlay opt
    # Nothing of the machine's own starts: what it has enabled, its identity, an imds-proxy of its own.
    # Nor does it have a policy that packages start nothing, as images of containers do.
    rm -rf etc/systemd/system/* etc/systemd/network/* etc/rc?.d/* etc/machine-id etc/resolv.conf etc/hostname \
        etc/nftables.conf etc/imds-proxy var/lib/imds-proxy var/log/journal usr/sbin/policy-rc.d
    tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
    echo gateway >etc/hostname
    mkdir -p etc/systemd/journald.conf.d root home
    printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n' >etc/systemd/journald.conf.d/tests.conf
    for folder in root home; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
    # Without the two of BPF systemd's filters by address silently do nothing.
    exec systemd-nspawn --boot --quiet --directory=/mnt/root --machine="$name" --hostname=gateway \
        --register=no --keep-unit --console=pipe --private-users=no --link-journal=no --resolv-conf=off --timezone=off \
        --network-namespace-path="/run/netns/$4" --system-call-filter=bpf \
        --capability=CAP_BPF,CAP_PERFMON,CAP_NET_ADMIN
    ;;
clean)
    own_cgroups
    [ ! -d "$cgroup" ] || find "$cgroup" -depth -type d -exec rmdir {} +
    ;;
layer)
    shift
    mount -t overlay -o "lowerdir=$1/opt,upperdir=$2,workdir=$3" overlay /opt
    shift 3
    exec "$@"
    ;;
esac
