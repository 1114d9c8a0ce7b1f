#!/bin/bash
# churn.sh CYCLES SEED TYPE: in domain 0, creates tiny guests (pv or pvh) and kills them at random moments of their lives.
RANDOM=$2
cd /run || exit 1
# The kernel unpacked: the builder has less to do, and more cycles fit into the time.
[ -e /run/vmlinux ] || python3 - <<'EOF'
import lzma
data = open("/vmlinuz", "rb").read()
at = data.index(b"\xfd7zXZ\0")
open("/run/vmlinux", "wb").write(lzma.LZMADecompressor().decompress(data[at:]))
EOF
sed "s,^kernel.*,kernel = \"/run/vmlinux\",; s,^type.*,type = \"$3\"," /etc/xen/tiny.cfg >churn.cfg
io='extra="console=hvc0 quiet tiny.run=dd,if=/dev/xvda,of=/dev/null,bs=64k;dd,if=/dev/zero,of=/dev/xvda,bs=64k;ticks"'
disk='disk=["phy:/dev/loop7,xvda,w"]'
[ -e churn.disk ] || { truncate -s 64M churn.disk && losetup /dev/loop7 churn.disk; }
log=/var/log/xen/console/guest-tiny.log

# moment MAX: a random time of at most MAX seconds
moment() { sleep "$((RANDOM % $1)).$((RANDOM % 10))"; }

# create OPTION...: it has to succeed
create()
{
    rm -f $log
    xl create churn.cfg "$@" >/dev/null || { echo "churn: cycle $cycle: no guest was created" && exit 1; }
}

# Until the guest's own program runs
wait_up()
{
    for i in $(seq 120); do
        grep -aq 'tiny: up' $log && return
        sleep 0.5
    done
    echo "churn: cycle $cycle: the guest does not come up" && exit 1
}

destroy_all()
{
    for domain in $(xl list | awk 'NR > 2 { print $2 }'); do xl destroy "$domain" 2>/dev/null; done
}

for cycle in $(seq "$1"); do
    case $((RANDOM % 10)) in
    [0-2]) # while it is built: the tool dies as well
        xl create churn.cfg >/dev/null 2>&1 &
        moment 3
        kill -9 $! 2>/dev/null
        wait $! 2>/dev/null
        ;;
    [3-4]) # paused, never having run
        create -p
        ;;
    [5-6]) # while it boots
        create
        moment 5
        ;;
    [7-8]) # in the middle of I/O
        create "$disk" "$io"
        wait_up
        moment 3
        ;;
    9) # while it shuts down
        create
        wait_up
        xl shutdown tiny >/dev/null 2>&1
        moment 2
        ;;
    esac
    destroy_all
    [ $((cycle % 10)) = 0 ] && echo "churn: $cycle"
done
for i in $(seq 30); do
    [ "$(xl list | wc -l)" = 2 ] && echo "churn: all are gone" && exit 0
    sleep 1
    destroy_all
done
echo "churn: some are left"
xl list
exit 1
