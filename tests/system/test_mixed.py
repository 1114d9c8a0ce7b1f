"""Four PV and four PVH guests at once, under load: each makes progress all the time, and nothing is lost."""
import pytest

from machine import manager

KINDS = ("pv", "pvh")
LOADS = {
    "compute": "while,:;do,head,-c,1000000,/dev/urandom|md5sum>/dev/null;done",
    "disk": "while,:;do,dd,if=/dev/xvda,of=/dev/null,bs=64k;dd,if=/dev/zero,of=/dev/xvda,bs=64k;done,2>/dev/null",
    "network": "while,:;do,wget,-q,-O,/dev/null,http://10.9.0.1:8000/file;done",
    "fork": "while,:;do,/bin/busybox,true;done",
}
GUESTS = [(kind, load) for kind in KINDS for load in LOADS]
KEPT = 1024  # pages that domain 0 keeps for as many mappings and channels as it once had: docs/status.md
# Loads begin when all guests are there: a busy domain 0 takes minutes to make one.
BEGIN = "until,wget,-q,-O,/dev/null,http://10.9.0.1:8000/go;do,sleep,3;done;"
STEP = 30  # seconds after which all must have made progress


def create(m, number, kind, load):
    name = f"{kind}-{load}"
    m.run(f"truncate -s 64M /run/{name}.disk; losetup /dev/loop{number} /run/{name}.disk")
    m.run(f"xl create /etc/xen/tiny.cfg 'name=\"{name}\"' 'type=\"{kind}\"' vcpus={1 + number % 2} memory=128 "
          f"'disk=[\"phy:/dev/loop{number},xvda,w\"]' 'vif=[\"bridge=xenbr0,mac=00:16:3e:09:01:0{number}\"]' "
          f"'extra=\"console=hvc0 quiet ip=10.9.0.{100 + number} tiny.run=ticks&{BEGIN}{LOADS[load]}\"'", 120)
    m.guest_says(name, "tiny: up after", 180)


def ticks(m):
    return [int(m.run(f"grep -ac '^tick' /var/log/xen/console/guest-{kind}-{load}.log")) for kind, load in GUESTS]


@pytest.mark.extra
@pytest.mark.parametrize("seconds", [60, 600])
def test_pv_and_pvh_under_load(seconds):
    with manager(f"mixed-{seconds}", pvh=True, limit=1200 + 4 * seconds) as m:
        m.login()
        m.run("modprobe loop; mkdir /srv/www; cd /srv/www; head -c 5M /dev/urandom >file")
        m.run("(exec python3 -m http.server 8000 >/dev/null 2>&1) & cd")
        # What domain 0 keeps for good is taken by the first guests.
        for kind in KINDS:
            create(m, 9, kind, "compute")
            m.run(f"xl destroy {kind}-compute; losetup -d /dev/loop9; rm /var/log/xen/console/guest-*.log")
            m.destroyed(f"{kind}-compute")
        before = m.free_pages()
        for number, (kind, load) in enumerate(GUESTS):
            create(m, number, kind, load)
        m.run("touch /srv/www/go")
        for _ in range(seconds // STEP):
            first = ticks(m)
            m.run(f"sleep {STEP}", 4 * STEP)
            for (kind, load), then, now in zip(GUESTS, first, ticks(m)):
                assert now > then, f"{kind}-{load} stands still after tick {then}"
        m.audit()
        # Beside running guests domain 0 is too slow for libxl, which gives the scripts of devices ten seconds.
        for kind, load in GUESTS:
            m.run(f"xl pause {kind}-{load}", 120)
        for kind, load in GUESTS:
            m.run(f"xl destroy {kind}-{load}", 120)
        m.wait_until("! xl list | grep -E 'pv|null'", 120)
        m.run("losetup -D")
        assert before - m.free_pages() < KEPT
        m.audit()
        m.check_logs()
        m.power_off()
