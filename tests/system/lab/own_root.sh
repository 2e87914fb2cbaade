#!/bin/sh
# Runs a script in a root of its own: programs and libraries are the machine's that runs the tests, read-only;
# all that is written stays below ROOT. /proc and the interfaces in /sys are those of the caller's namespaces.
# Usage, in new mount, UTS and PID namespaces: own_root.sh ROOT ADDED SCRIPT
# ADDED is seen as /opt/added, read-only; SCRIPT is the text for sh.
set -eu
root=$1
added=$2
script=$3

mount --make-rprivate /
for folder in usr opt/added proc sys/class/net sys/devices dev; do mkdir -p "$root/$folder"; done
for link in bin sbin lib lib32 lib64 libx32; do
    [ ! -L "/$link" ] || ln -s "$(readlink "/$link")" "$root/$link"
done
mount --bind --read-only /usr "$root/usr"
mount --bind --read-only "$added" "$root/opt/added"
mount -t proc proc "$root/proc"
mount --rbind /sys/class/net "$root/sys/class/net"
mount --rbind /sys/devices "$root/sys/devices"
for device in null zero random urandom; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
exec chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    sh -c "$script"
