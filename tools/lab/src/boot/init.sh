#!/bin/busybox sh
# PID 1 of the lab until the root is in place. $1: the path of calve-lab, whose `agent` serves the callers from then on;
# $2: `disk` if there is one.
b=/bin/busybox
$b mount -t proc none /proc
$b mount -t devtmpfs none /dev
while read -r module; do $b insmod "/modules/$module"; done < /modules/order

# This machine's files, read-only, under an overlay in RAM. Loose caching: the agent drops the caches when a caller asks for fresh files.
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose hostroot /host
$b mount -t tmpfs -o mode=755 none /rw
$b mkdir /rw/upper /rw/work
$b mount -t overlay -o lowerdir=/host,upperdir=/rw/upper,workdir=/rw/work none /root

$b mount -t proc none /root/proc
$b mount -t sysfs none /root/sys
$b mount -t cgroup2 none /root/sys/fs/cgroup
$b mount --move /dev /root/dev
$b mkdir -p /root/dev/shm /root/dev/pts /root/run
$b mount -t devpts none /root/dev/pts
$b mount -t tmpfs -o mode=755 none /root/run
$b mount -t tmpfs -o mode=1777 none /root/dev/shm
# A disk, if this lab has one ($2): empty, so it gets a file system first.
if [ "$2" = disk ]; then
    while read -r module; do $b insmod "/modules/$module"; done < /modules/disk
    PATH=/usr/sbin:/sbin:/usr/bin:/bin $b chroot /root mkfs.ext4 -q -E nodiscard /dev/vda
    $b mkdir -p /root/disk
    $b mount -t ext4 -o noinit_itable /root/dev/vda /root/disk
fi
$b ip link set lo up
$b hostname lab

# A shell stays PID 1 and reaps. When the agent ends, so does the machine: QEMU runs with -no-reboot.
exec $b switch_root /root /bin/sh -c '"$0" agent; echo "the agent of the lab ended with status $?"; echo b > /proc/sysrq-trigger' "$1"
