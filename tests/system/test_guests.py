"""A whole Debian as a guest, PV and PVH: boots, disks, network, load, save and restore under load. One domain 0 for all.

In make check it boots once, on a qcow2 overlay of its disk, and uses disk and network."""
import re
import time

import pytest

from machine import check_stress, manager

extra = pytest.mark.extra
pytestmark = pytest.mark.xdist_group("guests")
LOGIN = "debian login:"
STRESS = "stress-ng --verify --vm-bytes 32M --mmap-bytes 32M " + " ".join(
    f"--{kind} 1" for kind in ("cpu", "vm", "fork", "mmap", "signal", "pipe", "futex", "switch", "timer", "fp"))


@pytest.fixture(scope="module", params=["PV", pytest.param("PVH", marks=pytest.mark.extra)])
def guest_type(request):
    return request.param


@pytest.fixture(scope="module")
def dom0(guest_type):
    with manager(f"guests-{guest_type}", pvh=guest_type == "PVH", limit=3600) as m:
        m.login()
        m.run(f"sed -i 's/^type = .*/type = \"{guest_type.lower()}\"/' /etc/xen/tiny.cfg /etc/xen/debian.cfg")
        # Files to send, served by HTTP on port 8000
        m.run("mkdir /srv/www; cd /srv/www; head -c 20M /dev/urandom >file; md5sum <file >/run/sum; cd")
        m.run("(cd /srv/www; exec python3 -m http.server 8000 >/dev/null 2>&1) & iperf3 -s -D; modprobe loop")
        yield m


@pytest.fixture(scope="module")
def free_at_start(dom0):
    dom0.create("tiny")
    dom0.guest_says("tiny", "tiny: up after")
    dom0.run("xl destroy tiny")
    dom0.destroyed("tiny")
    return dom0.free_pages()


@pytest.fixture
def debian(dom0, free_at_start):
    """The guest with 2 vcpus on a qcow2 overlay of its disk, logged in; made anew when a test has lost it."""
    if dom0.run("xl domid debian 2>/dev/null", check=False) == "":
        dom0.run("cd /root; qemu-img create -q -f qcow2 -b /dev/vdb -F raw debian.qcow2")
        # By itself a kernel keeps its programs from making hypercalls; here one tries.
        dom0.create("debian", "'disk=[\"format=qcow2,vdev=xvda,access=rw,target=/root/debian.qcow2\"]' "
                    "'extra=\"console=hvc0 xen_privcmd.unrestricted=1\"'")
        dom0.guest_says("debian", LOGIN, 240)
        with dom0.guest_console("debian") as guest:
            guest.login()
            guest.run("cd /root")
    return "debian"


@extra
@pytest.mark.parametrize("vcpus", [1, 2, 4, 8])
@pytest.mark.parametrize("config", ["debian", "debian-grub"])
def test_debian_boots_and_shuts_down(dom0, free_at_start, guest_type, config, vcpus):
    if config == "debian-grub" and guest_type == "PVH":
        pytest.skip("GRUB for PV guests")
    dom0.create(config, f"vcpus={vcpus}")
    dom0.guest_says("debian", LOGIN, 240 + 60 * (vcpus > 4))
    with dom0.guest_console("debian") as guest:
        guest.login()
        assert guest.run("systemctl is-system-running --wait", 120, check=False) == "running"
        assert guest.run("nproc") == str(vcpus)
        assert guest.run("cat /sys/hypervisor/type /sys/hypervisor/guest_type").split() == ["xen", guest_type]
        assert guest.run("findmnt -n -o SOURCE /") == "/dev/xvda"
        check_kernel_log(guest)
    dom0.wait_until("ping -c 1 -W 1 debian", 30)
    dom0.run("xl shutdown -w debian", 180)
    dom0.destroyed("debian")


def check_kernel_log(guest):
    trouble = guest.run("dmesg | grep -E 'BUG|WARNING:|Call Trace|Oops|general protection|segfault|soft lockup|rcu: INFO'",
                        check=False)
    assert trouble == ""


@pytest.mark.parametrize("kind", ["qcow2", pytest.param("raw", marks=extra), pytest.param("phy", marks=extra)])
def test_disk_keeps_what_is_written(dom0, debian, kind):
    """A new disk is attached, written and read in the guest, and read again by domain 0 when it is detached."""
    dom0.run("rm -f disk*; truncate -s 64M disk.raw")
    if kind == "raw":
        target, read = "format=raw,vdev=xvdc,access=rw,target=/root/disk.raw", "cat disk.raw"
    elif kind == "phy":
        dom0.run("losetup /dev/loop5 disk.raw")
        target, read = "phy:/dev/loop5,xvdc,w", "cat /dev/loop5"
    else:
        dom0.run("qemu-img create -q -f qcow2 -b disk.raw -F raw disk.qcow2")
        target = "format=qcow2,vdev=xvdc,access=rw,target=/root/disk.qcow2"
        read = "qemu-img convert -O raw disk.qcow2 disk.out; cat disk.out"
    dom0.run(f"xl block-attach debian {target}")
    with dom0.guest_console(debian) as guest:
        guest.run("for i in $(seq 20); do [ -b /dev/xvdc ] && break; sleep 1; done")
        guest.run("head -c 64M /dev/urandom | tee /dev/xvdc | md5sum >/run/sum; sync /dev/xvdc; echo 3 >/proc/sys/vm/drop_caches", 180)
        want = guest.run("cat /run/sum")
        assert guest.run("md5sum </dev/xvdc", 120) == want
    dom0.run("xl block-detach debian xvdc")
    assert dom0.run(f"{{ {read}; }} | md5sum", 120) == want
    dom0.run("losetup -d /dev/loop5 2>/dev/null; rm disk*")


def test_files_go_both_ways_over_the_network(dom0, debian):
    want = dom0.run("cat /run/sum")
    with dom0.guest_console(debian) as guest:
        assert guest.run("curl -sS http://10.9.0.1:8000/file | tee file | md5sum", 120) == want
        guest.run("python3 -m http.server 8000 >/dev/null 2>&1 & true")
    dom0.wait_until("curl -sS -m 5 -o /dev/null http://debian:8000/", 60)
    assert dom0.run("curl -sS http://debian:8000/file | md5sum", 120) == want
    with dom0.guest_console(debian) as guest:
        guest.run("kill %1; wait", check=False)


@extra
@pytest.mark.parametrize("seconds", [5, 30])
def test_iperf3(dom0, debian, seconds):
    with dom0.guest_console(debian) as guest:
        for direction in ("", "-R"):
            output = guest.run(f"iperf3 -c 10.9.0.1 -t {seconds} {direction}", seconds + 60)
            rates = re.findall(r"([\d.]+) ([MG])bits/sec.*(?:receiver)", output)
            assert rates and float(rates[0][0]) > 1, output


@extra
@pytest.mark.parametrize("seconds", [20, 180])
def test_stress(dom0, debian, seconds):
    with dom0.guest_console(debian) as guest:
        output = guest.run(f"{STRESS} --timeout {seconds}s 2>&1", seconds * 2 + 120)
        check_stress(output)
        check_kernel_log(guest)


@extra
def test_save_and_restore_under_load(dom0, debian):
    """In the middle of a running stress-ng and of a transfer by TCP; both end well."""
    want = dom0.run("cat /run/sum")
    with dom0.guest_console(debian) as guest:
        guest.run(f"{STRESS} --timeout 40s >stress.log 2>&1 & true")
        guest.run("{ curl -sS --limit-rate 400k http://10.9.0.1:8000/file | md5sum >got; } 2>errors & true")
    time.sleep(10)
    dom0.run("xl save debian /root/save", 240)
    dom0.run("! xl domid debian 2>/dev/null")
    dom0.run("xl restore /root/save; rm /root/save", 240)
    with dom0.guest_console(debian) as guest:
        guest.run("wait", 300)
        assert guest.run("cat got errors") == want
        check_stress(guest.run("cat stress.log"))
        check_kernel_log(guest)


def test_a_guest_may_not_manage(dom0, debian):
    """xl in a guest is refused, with a line in the log that says what was asked."""
    dom0.run("xl dmesg -c >/dev/null")
    with dom0.guest_console(debian) as guest:
        assert re.search(r"not permitted|Permission denied", guest.run("! xl list 2>&1"))
    if not dom0.on_xen:
        assert re.search(r"d\d+.*sysctl", dom0.run("xl dmesg"))


def test_nothing_is_lost(dom0, free_at_start):
    dom0.run("xl destroy debian", check=False)
    assert len(dom0.run("xl list").splitlines()) == 2
    dom0.expect_free_pages(free_at_start)
    dom0.audit()
    dom0.check_logs()


def test_power_off(dom0):
    dom0.power_off()
