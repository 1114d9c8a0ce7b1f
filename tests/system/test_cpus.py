"""CPUs off and on line with xen-hptool, and CPU pools with xl, while domain 0 and a guest are busy on all of them."""
import base64
import re

import pytest

from machine import manager

pytestmark = pytest.mark.xdist_group("cpus")
UP = "tiny: up after"
HPTOOL = "/usr/lib/xen-4.17/bin/xen-hptool"
# Each vcpu of domain 0 counts; each count is a file's, so that one that stands still is seen.
COUNT = "i=0; while :; do i=$((i + 1)); echo $i >/run/count$n; done"

# Off and on, one CPU after the other, or all but CPU 0 at once; each round with other affinities of domain 0 and the guest.
CHURN = f"""
off() {{ {HPTOOL} cpu-offline $1 >/run/hptool 2>&1 || {{ echo "CPU $1 off:"; cat /run/hptool; exit 1; }}; }}
on() {{ {HPTOOL} cpu-online $1 >/run/hptool 2>&1 || {{ echo "CPU $1 on:"; cat /run/hptool; exit 1; }}; }}
pin() {{ xl vcpu-pin "$@" || {{ echo "not pinned: $*"; exit 1; }}; }}
round=0
while [ $round -lt $1 ]; do
    round=$((round + 1))
    cpu=$((round % 3 + 1))
    pin 0 $((round % 4)) 0,$cpu; pin tiny 0 $cpu $cpu; pin tiny 1 all $cpu
    off $cpu
    pin 0 all all; pin tiny all all 0-1
    [ $((round % 3)) = 0 ] && {{ off $((cpu % 3 + 1)); off $(((cpu + 1) % 3 + 1)); }}
    pin 0 $((round % 4)) 0; pin 0 $((round % 4)) all
    [ $((round % 3)) = 0 ] && {{ on $((cpu % 3 + 1)); on $(((cpu + 1) % 3 + 1)); }}
    on $cpu
done
echo all rounds done
"""


@pytest.fixture(scope="module")
def dom0():
    with manager("cpus", cpus=4) as m:
        m.login()
        m.create("tiny", "vcpus=2")
        m.guest_says("tiny", UP)
        with m.guest_console("tiny") as guest:
            guest.login(r"tiny# ")
        yield m


def vcpus(m, guest):
    """Of xl vcpu-list: for each vcpu its CPU and its affinity (hard / soft)."""
    lines = m.run(f"xl vcpu-list {guest}").splitlines()[1:]
    return [(line.split()[3], " ".join(line.split()[6:])) for line in lines]


def counts(shell, numbers):
    """What the counters have come to; a file that is just being written is empty."""
    return [int(shell.run(f"until c=$(cat /run/count{n}) && [ -n \"$c\" ]; do :; done; echo $c")) for n in numbers]


def check_scheduler(m, cpus=4):
    """Croft's own look at run queues and pools finds nothing; so many CPUs are on line."""
    m.run("xl dmesg -c >/dev/null; xl debug-keys r")
    report = m.run("xl dmesg")
    assert "audit of pools: 0 findings" in report, report
    assert len(re.findall(r"^\(CROFT\) +CPU \d+: virtual time", report, re.M)) == cpus, report
    assert re.search(rf"^nr_cpus +: {cpus}$", m.run("xl info"), re.M)


def churn(m, rounds):
    """Everybody counts while CPUs come and go; afterwards nobody stands still."""
    m.run(f"for n in 0 1 2 3; do ({COUNT}) & done 2>/dev/null")
    with m.guest_console("tiny") as guest:
        guest.run(f"mkdir -p /run; for n in 0 1; do ({COUNT}) & done 2>/dev/null")
    m.run("base64 -d >/run/churn.sh <<EOF\n" + base64.encodebytes(CHURN.encode()).decode() + "EOF\n:")
    try:
        output = m.run(f"bash /run/churn.sh {rounds}", 60 + 40 * rounds, check=False)
        assert "all rounds done" in output, output
        assert [affinity for _, affinity in vcpus(m, "tiny")] == ["all / 0-1"] * 2
        before = counts(m, range(4))
        with m.guest_console("tiny") as guest:
            guest_before = counts(guest, range(2))
            guest.run("sleep 2")
            guest_after = counts(guest, range(2))
        assert all(a > b for a, b in zip(counts(m, range(4)), before)), "each of domain 0's goes on"
        assert all(a > b for a, b in zip(guest_after, guest_before)), "and each of the guest's"
    finally:
        m.run("kill $(jobs -p); wait", check=False)
        with m.guest_console("tiny") as guest:
            guest.run("kill $(jobs -p); wait", check=False)
    check_scheduler(m)
    m.audit()


@pytest.mark.extra
def test_off_and_on_under_load(dom0):
    churn(dom0, 3)


@pytest.mark.extra
def test_off_and_on_for_long(dom0):
    churn(dom0, 60)


def test_affinity_is_lost_with_its_last_cpu(dom0):
    dom0.run("xl vcpu-pin tiny 0 3 all; xl vcpu-pin tiny 1 2-3 all; xl dmesg -c >/dev/null")
    dom0.run(f"{HPTOOL} cpu-offline 3")
    assert [affinity for _, affinity in vcpus(dom0, "tiny")] == ["all / all", "2-3 / all"]
    assert re.search(r"d\d+v0: no CPU is left of those it was pinned to", dom0.run("xl dmesg"))
    assert "3" not in [cpu for cpu, _ in vcpus(dom0, "tiny") + vcpus(dom0, "0")]
    check_scheduler(dom0, 3)
    dom0.run(f"{HPTOOL} cpu-online 3; xl vcpu-pin tiny all all all")


def test_by_domain_0s_kernel(dom0):
    online = "/sys/devices/system/xen_cpu/xen_cpu2/online"
    dom0.run(f"echo 0 >{online}")
    assert dom0.run(f"cat {online}") == "0"
    check_scheduler(dom0, 3)
    dom0.run(f"echo 1 >{online}")
    assert dom0.run(f"cat {online}") == "1"
    check_scheduler(dom0)


def refused(m, command, reason):
    """The command says so, in a line of its own; its status is not always an error's (xl cpupool-cpu-remove)."""
    output = m.run(f"{command} 2>&1", check=False)
    assert re.search(reason, output), output


def test_refusals(dom0):
    refused(dom0, f"{HPTOOL} cpu-offline 0", "CPU 0 offline failed .*Invalid argument")
    refused(dom0, f"{HPTOOL} cpu-offline 4", "CPU 4 offline failed .*Invalid argument")
    refused(dom0, f"{HPTOOL} cpu-online 99", "CPU 99 online failed .*Invalid argument")
    refused(dom0, f"{HPTOOL} cpu-online 3", "CPU 3 online failed .*File exists")
    refused(dom0, f"{HPTOOL} smt-disable", "not supported")
    refused(dom0, "xl cpupool-cpu-add nowhere 3", "unknown cpupool 'nowhere'")
    refused(dom0, "xl cpupool-migrate tiny nowhere", "unknown cpupool 'nowhere'")
    refused(dom0, "xl cpupool-destroy Pool-0", "Can't destroy cpupool 'Pool-0'")
    refused(dom0, "xl cpupool-cpu-add Pool-0 2", "some cpus may not have been added to Pool-0")
    # The last CPU of a pool with domains
    dom0.run("xl cpupool-cpu-remove Pool-0 1-3")
    refused(dom0, "xl cpupool-cpu-remove Pool-0 0", "Some cpus may have not")
    dom0.run("xl cpupool-cpu-add Pool-0 1,2")
    # Pool-0's last one is not CPU 0, and stays on line all the same.
    dom0.run("xl cpupool-cpu-remove Pool-0 0,1")
    refused(dom0, f"{HPTOOL} cpu-offline 2", "CPU 2 offline failed")
    dom0.run("xl cpupool-cpu-add Pool-0 0,1,3")
    check_scheduler(dom0)


def test_pools(dom0):
    def pools():
        return [line.split() for line in dom0.run("xl cpupool-list -c").splitlines()[1:]]

    assert pools() == [["Pool-0", "0,1,2,3"]]
    dom0.run("xl cpupool-cpu-remove Pool-0 2-3")
    dom0.run("xl cpupool-create 'name=\"second\"' 'cpus=\"3\"'")
    dom0.run("xl cpupool-cpu-add second 2")
    assert pools() == [["Pool-0", "0,1"], ["second", "2,3"]]
    dom0.run("xl cpupool-migrate tiny second")
    with dom0.guest_console("tiny") as guest:
        guest.run(f"for n in 0 1; do ({COUNT}) & done 2>/dev/null; sleep 1; kill $(jobs -p); wait", check=False)
    assert {cpu for cpu, _ in vcpus(dom0, "tiny")} <= {"2", "3", "-"}
    assert {cpu for cpu, _ in vcpus(dom0, "0")} <= {"0", "1", "-"}
    assert re.search(r"^second +\d+ +credit2 +y +1$", dom0.run("xl cpupool-list"), re.M)
    refused(dom0, f"{HPTOOL} cpu-offline 2", "CPU 2 offline failed")
    refused(dom0, "xl cpupool-migrate 0 second", "(?i)not permitted|error")
    # A guest may begin in it, and ends with it.
    dom0.run("xl create /etc/xen/tiny.cfg 'name=\"inside\"' 'vif=[]' 'pool=\"second\"' vcpus=2", 120)
    dom0.guest_says("inside", UP)
    assert {cpu for cpu, _ in vcpus(dom0, "inside")} <= {"2", "3", "-"}
    check_scheduler(dom0)
    dom0.run("xl cpupool-rename second renamed")
    assert pools()[1] == ["renamed", "2,3"]
    dom0.run("xl destroy inside")
    dom0.destroyed("inside")
    dom0.run("xl cpupool-migrate tiny Pool-0")
    dom0.run("xl cpupool-destroy renamed")
    assert pools() == [["Pool-0", "0,1"]]
    dom0.run("xl cpupool-cpu-add Pool-0 2-3")
    with dom0.guest_console("tiny") as guest:
        guest.run("true")
    check_scheduler(dom0)


def test_logs_and_power_off(dom0):
    dom0.run("xl destroy tiny")
    dom0.destroyed("tiny")
    dom0.audit()
    dom0.check_logs()
    dom0.power_off()
