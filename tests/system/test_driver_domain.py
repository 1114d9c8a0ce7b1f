"""A guest (the driver domain, a Debian) serves another guest's network and disk, dies while they are in use, and returns."""
import pytest

from machine import manager

pytestmark = [pytest.mark.xdist_group("driver_domain"), pytest.mark.extra]
DEVICES = ("'vif=[\"bridge=xenbr0,mac=00:16:3e:09:00:0d,backend=driver\"]'",
           "'disk=[\"format=raw,vdev=xvda,access=rw,backend=driver,target=/dev/xvdb\"]'")


@pytest.fixture(scope="module")
def dom0():
    with manager("driver_domain", limit=1500) as m:
        m.login()
        # The served disk holds the same after the driver domain has come back.
        m.run("head -c 32M /dev/urandom >/root/served; losetup /dev/loop6 /root/served; md5sum </root/served >/run/sum")
        yield m


def start_driver(m):
    m.create("debian", "vcpus=1 memory=384 driver_domain=1 'name=\"driver\"' "
             "'disk=[\"phy:/dev/vdb,xvda,w\",\"phy:/dev/loop6,xvdb,w\"]' "
             "'extra=\"console=hvc0 xen_privcmd.unrestricted=1\"'")
    m.guest_says("driver", "debian login:", 240)
    with m.guest_console("driver") as guest:
        guest.login()
        guest.run("modprobe xen-netback; modprobe xen-blkback; ip link add xenbr0 type bridge; "
                  "ip addr add 10.8.0.1/24 dev xenbr0; ip link set xenbr0 up")
        guest.run("mkdir /srv/www; cd /srv/www; head -c 8M /dev/zero >file; "
                  "(exec python3 -m http.server 8000 >/dev/null 2>&1) & cd; xl devd")


def use(m, disk="xvda"):
    """The client reads its disk and fetches a file through the driver domain."""
    want = m.run("cat /run/sum")
    with m.guest_console("tiny") as guest:
        # The back ends are ready a while after the devices were attached.
        guest.run(f"for i in $(seq 90); do [ -e /sys/class/net/eth0 -a -b /dev/{disk} ] && break; sleep 1; done; ls /sys/class/net",
                  120)
        guest.run("ifconfig eth0 10.8.0.2 netmask 255.255.255.0 up; for i in $(seq 20); do ping -c 1 -W 1 10.8.0.1 && break; done")
        assert guest.run(f"md5sum </dev/{disk}", 120) == want
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
    with dom0.guest_console("tiny") as guest:
        guest.run("(while :; do dd if=/dev/xvda of=/dev/null bs=64k; echo 3 >/proc/sys/vm/drop_caches; done) >/dev/null 2>&1 & "
                  "(while :; do wget -q -O /dev/null http://10.8.0.1:8000/file; done) >/dev/null 2>&1 & sleep 3")
    dom0.run("xl destroy driver")
    with dom0.guest_console("tiny") as guest:
        assert guest.run("echo alive") == "alive"
        guest.run("! ping -c 2 -W 1 10.8.0.1")
    dom0.run("sync; curl -sS -m 10 -o /dev/null http://10.0.2.2:1 ; ls /root")


def test_mends_when_it_returns(dom0, client):
    """The network is attached anew. The disk is so under another name: Linux waits for ever for the requests that were under
    way, and would wait with all of its xenbus if it had to remove that disk."""
    start_driver(dom0)
    dom0.run("xl network-detach tiny 0; sleep 3; xl network-attach tiny bridge=xenbr0 mac=00:16:3e:09:00:0d backend=driver; "
             "xl block-attach tiny format=raw,vdev=xvdb,access=rw,backend=driver,target=/dev/xvdb", 120)
    use(dom0, "xvdb")


def test_nothing_is_lost(dom0, client):
    dom0.run("xl destroy tiny; xl destroy driver; sleep 2")
    assert len(dom0.run("xl list").splitlines()) == 2
    dom0.audit()
    dom0.check_logs()
    dom0.power_off()
