"""A guest (the driver domain, a Debian, PV or PVH) serves another guest's network and disk, dies while they are in use, and returns."""
import pytest

from machine import manager

pytestmark = [pytest.mark.xdist_group("driver_domain"), pytest.mark.extra]
DEVICES = ("'vif=[\"bridge=xenbr0,mac=00:16:3e:09:00:0d,backend=driver\"]'",
           "'disk=[\"format=raw,vdev=xvda,access=rw,backend=driver,target=/dev/xvdb\"]'")


@pytest.fixture(scope="module", params=["pv", "pvh"])
def dom0(request):
    with manager(f"driver_domain-{request.param}", pvh=request.param == "pvh", limit=1500) as m:
        m.login()
        m.run(f"sed -i 's/^type = .*/type = \"{request.param}\"/' /etc/xen/debian.cfg")
        # The first 2 MiB of the served disk are read, the second half is written.
        m.run("head -c 32M /dev/urandom >/root/served; losetup /dev/loop6 /root/served; head -c 2M /root/served | md5sum >/run/sum")
        yield m


def start_driver(m, create="xl create"):
    m.run("rm -f /var/log/xen/console/guest-driver.log")
    m.run(f"{create} /etc/xen/debian.cfg vcpus=1 memory=384 driver_domain=1 'name=\"driver\"' "
          "'disk=[\"phy:/dev/vdb,xvda,w\",\"phy:/dev/loop6,xvdb,w\"]' 'extra=\"console=hvc0 xen_privcmd.unrestricted=1\"'", 120)
    m.guest_says("driver", "debian login:", 240)
    with m.guest_console("driver") as guest:
        guest.login()
        guest.run("modprobe xen-netback; modprobe xen-blkback; ip link add xenbr0 type bridge; "
                  "ip addr add 10.8.0.1/24 dev xenbr0; ip link set xenbr0 up")
        guest.run("mkdir -p /srv/www; cd /srv/www; head -c 8M /dev/zero >file; "
                  "(exec python3 -m http.server 8000 >/dev/null 2>&1) & cd; xl devd")


def use(m):
    """The client reads its disk and fetches a file through the driver domain."""
    want = m.run("cat /run/sum")
    with m.guest_console("tiny") as guest:
        # The back ends are ready a while after the devices were attached.
        guest.run("for i in $(seq 90); do [ -e /sys/class/net/eth0 -a -b /dev/xvda ] && break; sleep 1; done; ls /sys/class/net", 120)
        guest.run("ifconfig eth0 10.8.0.2 netmask 255.255.255.0 up; for i in $(seq 40); do ping -c 1 -W 1 10.8.0.1 && break; done")
        assert guest.run("head -c 2097152 /dev/xvda | md5sum", 120) == want
        assert guest.run("wget -q -O - http://10.8.0.1:8000/file | wc -c", 120) == str(8 << 20)


@pytest.fixture(scope="module")
def client(dom0):
    start_driver(dom0)
    dom0.run("xl create /etc/xen/tiny.cfg " + " ".join(DEVICES) + " 'extra=\"console=hvc0 quiet ip=10.8.0.2\"'", 120)
    dom0.guest_says("tiny", "tiny: up after")
    with dom0.guest_console("tiny") as guest:
        guest.login(r"tiny# ")


def test_serves_network_and_disk(dom0, client):
    driver = dom0.run("xl domid driver")
    assert f" {driver} " in " ".join(dom0.run("xl network-list tiny").splitlines()[1].split()[:4]) + " "
    assert dom0.run("xl block-list tiny").splitlines()[1].split()[1] == driver
    use(dom0)


def test_its_death_breaks_only_its_devices(dom0, client):
    """It dies while the client reads from its disk, writes elsewhere on it, and fetches a file."""
    with dom0.guest_console("tiny") as guest:
        guest.run("mkdir -p /run; head -c 1048576 /dev/urandom >/run/block; "
                  "(while :; do head -c 2097152 /dev/xvda | md5sum >>/run/read; echo 3 >/proc/sys/vm/drop_caches; done) & "
                  "(i=16; while [ $i -lt 32 ]; do dd if=/run/block of=/dev/xvda bs=1M seek=$i conv=fsync,notrunc || break; "
                  "i=$((i == 31 ? 16 : i + 1)); echo $i >>/run/wrote; done) >/dev/null 2>&1 & "
                  "(while :; do wget -q -O /dev/null http://10.8.0.1:8000/file; done) >/dev/null 2>&1 & "
                  "for i in $(seq 60); do sleep 1; [ -s /run/read -a -s /run/wrote ] && break; done", 90)
        assert all(int(n) for n in guest.run("wc -l </run/read; wc -l </run/wrote").split())
    dom0.run("xl destroy driver")
    with dom0.guest_console("tiny") as guest:
        assert guest.run("echo alive") == "alive"
        guest.run("! ping -c 2 -W 1 10.8.0.1")
        before = guest.run("wc -l </run/read; wc -l </run/wrote; sleep 3")
        assert guest.run("wc -l </run/read; wc -l </run/wrote") == before
    dom0.run("sync; curl -sS -m 10 -o /dev/null http://10.0.2.2:1 ; ls /root")


def test_mends_when_it_returns(dom0, client):
    """The new one has the number of the old. What waited for it goes on by itself, and nothing that was read or written is wrong."""
    driver = dom0.run("xl block-list tiny").splitlines()[1].split()[1]
    served = dom0.run("cat /run/sum")
    start_driver(dom0, f"croft-backend create {driver}")
    assert dom0.run("xl domid driver") == driver
    dom0.run(f"croft-backend connect {driver}")
    with dom0.guest_console("tiny") as guest:
        reads, writes = (int(n) for n in guest.run("wc -l </run/read; wc -l </run/wrote").split())
        guest.run(f"for i in $(seq 120); do [ $(wc -l </run/read) -gt {reads + 4} -a $(wc -l </run/wrote) -gt {writes + 20} ] && break; "
                  "sleep 1; done; [ $i -lt 120 ]", 180)
        guest.run("kill $(jobs -p); wait; echo 3 >/proc/sys/vm/drop_caches", 120)
        guest.run("true")  # the shell tells what it ended
        assert guest.run("sort -u /run/read") == served
        blocks = "for i in $(seq 16 31); do dd if=/dev/xvda bs=1M skip=$i count=1 2>/dev/null | md5sum; done | sort -u"
        assert guest.run(blocks, 120) == guest.run("md5sum </run/block")
    use(dom0)


def test_refusals(dom0, client):
    for command, line in (("connect 9999", "there is no domain 9999"), ("create 0 /etc/xen/tiny.cfg", "domain 0 is there"),
                          ("create 40000 /etc/xen/tiny.cfg", "cannot choose the number"),
                          ("connect $(xl domid tiny)", "no guest has a device")):
        assert line in dom0.run(f"croft-backend {command} 2>&1", check=False)
    assert "is connected" in dom0.run("croft-backend connect $(xl domid driver)")


def test_nothing_is_lost(dom0, client):
    dom0.run("xl destroy tiny; xl destroy driver; sleep 2")
    assert len(dom0.run("xl list").splitlines()) == 2
    dom0.audit()
    dom0.check_logs()
    dom0.power_off()
