"""Each command of xl, on one domain 0, with the tiny guest: as PV, and as PVH."""
import json
import re
import time

import pytest

from machine import manager

pytestmark = pytest.mark.xdist_group("xl")
UP = "tiny: up after"
TINY = r"tiny# "


@pytest.fixture(scope="module", params=["oxenstored-pv", pytest.param("xenstored-pv", marks=pytest.mark.extra),
                                        pytest.param("oxenstored-pvh", marks=pytest.mark.extra)])
def dom0(request):
    xenstored, kind = request.param.split("-")
    with manager(f"xl-{request.param}", xenstored, pvh=kind == "pvh") as m:
        m.login()
        m.run(f"sed -i 's/^type = .*/type = \"{kind}\"/' /etc/xen/tiny.cfg")
        yield m


@pytest.fixture(scope="module")
def free_at_start(dom0):
    """Free pages when domain 0 has had two guests at once: what is kept for its event channels is taken then."""
    dom0.create("tiny")
    dom0.guest_says("tiny", UP)
    dom0.run("xl create -p /etc/xen/tiny.cfg 'name=\"twice\"' 'vif=[]'")
    for guest in ("tiny", "twice"):
        dom0.run(f"xl destroy {guest}")
        dom0.destroyed(guest)
    return dom0.free_pages()


@pytest.fixture
def tiny(dom0, free_at_start):
    """The guest that most tests share; its shell is logged in. Made anew when a test has lost it."""
    if dom0.run("xl domid tiny 2>/dev/null", check=False) == "":
        dom0.create("tiny", "vcpus=2")
        dom0.guest_says("tiny", UP)
        with dom0.guest_console("tiny") as guest:
            guest.login(TINY)
    return "tiny"


def state(m, guest):
    """Of xl list: memory in MiB, vcpus, state letters, seconds."""
    fields = m.run(f"xl list {guest}").splitlines()[-1].split()
    return int(fields[2]), int(fields[3]), fields[4], float(fields[5])


def vcpus(m, guest):
    """Of xl vcpu-list: for each vcpu its state and its affinity (hard / soft)."""
    lines = m.run(f"xl vcpu-list {guest}").splitlines()[1:]
    return [(line.split()[4], " ".join(line.split()[6:])) for line in lines]


# Questions

def test_info(dom0):
    info = dict(re.findall(r"^(\w+) *: (.*)$", dom0.run("xl info"), re.M))
    assert info["host"] == "croft"
    assert info["nr_cpus"] == "2"
    assert (info["xen_major"], info["xen_minor"]) == ("4", "17")
    assert "xen-3.0-x86_64" in info["xen_caps"]
    assert 4000 <= int(info["total_memory"]) <= 4096
    assert 2700 <= int(info["free_memory"]) <= 3072
    assert float(info["cpu_mhz"]) > 100
    assert "topology" in dom0.run("xl info -n")


def test_list(dom0):
    assert re.fullmatch(r"Domain-0 +0 +1024 +2 +r----- +\d+\.\d", dom0.run("xl list").splitlines()[1])
    domains = json.loads(dom0.run("xl list -l"))
    assert [d["domid"] for d in domains] == [0]


def test_vcpu_list(dom0):
    assert [affinity for _, affinity in vcpus(dom0, "0")] == ["all / all"] * 2


def test_domid_and_domname(dom0):
    assert dom0.run("xl domid Domain-0") == "0"
    assert dom0.run("xl domname 0") == "Domain-0"
    assert dom0.run("xl domid nobody", check=False) == "Can't get domid of domain name 'nobody', maybe this domain does not exist."


def test_dmesg(dom0):
    assert "com1=115200" in dom0.run("xl dmesg")
    dom0.run("xl dmesg -c >/dev/null")
    assert "com1=115200" not in dom0.run("xl dmesg")


def test_debug_keys(dom0):
    dom0.run("xl dmesg -c >/dev/null; xl debug-keys h")
    assert len(dom0.run("xl dmesg").splitlines()) > 5


@pytest.mark.parametrize("program", ["test-resource", "test-cpu-policy"])
def test_conformance_program_of_xen_utils(dom0, program):
    output = dom0.run(f"/usr/lib/xen-4.17/bin/{program}", timeout=120)
    assert not re.search(r"^\s*fail", output, re.I | re.M), output


# Life of a guest

def test_create_paused_and_unpause(dom0, free_at_start):
    dom0.create("tiny", "-p")
    memory, cpus, letters, seconds = state(dom0, "tiny")
    assert (memory, cpus, letters, seconds) == (128, 1, "--p---", 0.0)
    assert free_at_start - dom0.free_pages() >= 128 * 256
    dom0.run("xl unpause tiny")
    dom0.guest_says("tiny", UP)
    domid = dom0.run("xl domid tiny")
    assert dom0.run(f"xl domname {domid}") == "tiny"
    assert "tiny" in dom0.run("xl list -l tiny")
    dom0.run("xl destroy tiny")


def test_create_with_console(dom0):
    with dom0.guest_console("tiny", command="xl create -c /etc/xen/tiny.cfg") as guest:
        guest.login(TINY)
        assert guest.run("uname -s") == "Linux"
    dom0.run("xl destroy tiny")


def test_console(dom0, tiny, request):
    kind = "PVH" if "pvh" in request.node.name else "PV"
    with dom0.guest_console(tiny) as guest:
        assert guest.run("nproc") == "2"
        assert guest.run("cat /sys/hypervisor/type /sys/hypervisor/guest_type").split() == ["xen", kind]
        assert "127.0.0.1" in guest.run("ifconfig lo")


def test_network(dom0, tiny):
    dom0.wait_until("ping -c 1 -W 1 tiny", 30)
    assert "a guest of Croft" in dom0.run("curl -sS http://tiny/")


def test_pause_and_unpause(dom0, tiny):
    dom0.run(f"xl pause {tiny}")
    before = state(dom0, tiny)
    assert before[2][2] == "p"
    time.sleep(3)
    assert state(dom0, tiny)[3] == before[3], "a paused guest uses no time"
    dom0.run(f"xl unpause {tiny}")
    assert state(dom0, tiny)[2][2] == "-"
    with dom0.guest_console(tiny) as guest:
        guest.run("true")


def test_rename(dom0, tiny):
    domid = dom0.run(f"xl domid {tiny}")
    dom0.run(f"xl rename {tiny} renamed")
    assert dom0.run("xl domid renamed") == domid
    dom0.run(f"xl rename renamed {tiny}")
    assert dom0.run(f"xl domname {domid}") == tiny


def test_uptime(dom0, tiny):
    assert re.search(r"^tiny +\d+ +\d+:\d\d:\d\d", dom0.run("xl uptime"), re.M)


def test_sysrq(dom0, tiny):
    dom0.run(f"xl sysrq {tiny} h")
    dom0.guest_says(tiny, "sysrq: HELP", 30)


def test_xentop(dom0, tiny):
    output = dom0.run("xentop -b -i 1")
    assert re.search(r"^ *Domain-0 ", output, re.M)
    assert re.search(r"^ *tiny +[-a-z]+ +\d+ ", output, re.M)


def test_mem_set_and_mem_max(dom0, tiny):
    def total():
        with dom0.guest_console(tiny) as guest:
            return int(guest.run("grep MemTotal /proc/meminfo").split()[1]) // 1024

    whole = total()
    dom0.run(f"xl mem-set {tiny} 96")
    dom0.wait_until(f"xl list {tiny} | grep -E '{tiny} +[0-9]+ +9[67] '", 60)
    assert whole - total() in (31, 32, 33)
    dom0.run(f"xl mem-set {tiny} 128")
    dom0.wait_until(f"xl list {tiny} | grep -E '{tiny} +[0-9]+ +12[78] '", 60)
    dom0.run(f"xl mem-max {tiny} 160")
    maximum = re.search(r'"max_memkb": (\d+)', dom0.run(f"xl list -l {tiny}"))
    assert maximum, "xl list -l tells the maximum"


def test_vcpu_set(dom0, tiny):
    with dom0.guest_console(tiny) as guest:
        assert guest.run("nproc") == "2"
    dom0.run(f"xl vcpu-set {tiny} 1")
    dom0.wait_until(f"xl vcpu-list {tiny} | grep -E -e '--p|--- '", 30)
    with dom0.guest_console(tiny) as guest:
        assert guest.run("nproc") == "1"
    dom0.run(f"xl vcpu-set {tiny} 2")
    with dom0.guest_console(tiny) as guest:
        # Debian's udev would do this.
        guest.run("cd /sys/devices/system/cpu/cpu1; for i in $(seq 10); do echo 1 >online && break; sleep 1; done; cd /")
        assert guest.run("nproc") == "2"


def test_vcpu_pin(dom0, tiny):
    dom0.run(f"xl vcpu-pin {tiny} 0 1")
    assert vcpus(dom0, tiny)[0][1] == "1 / all"
    dom0.run(f"xl vcpu-pin {tiny} 0 all 0")
    assert vcpus(dom0, tiny)[0][1] == "all / 0"
    dom0.run(f"xl vcpu-pin {tiny} all all all")
    assert [affinity for _, affinity in vcpus(dom0, tiny)] == ["all / all"] * 2
    with dom0.guest_console(tiny) as guest:
        guest.run("true")


def test_sched_credit2(dom0, tiny):
    assert re.search(r"^tiny +\d+ +256\b", dom0.run("xl sched-credit2"), re.M)
    dom0.run(f"xl sched-credit2 -d {tiny} -w 512")
    assert re.search(r"^tiny +\d+ +512\b", dom0.run(f"xl sched-credit2 -d {tiny}"), re.M)
    dom0.run(f"xl sched-credit2 -d {tiny} -w 256")


def test_croft_sched(dom0, tiny):
    """Croft's own tool, beside xl: what Borrowed Virtual Time has more than weights."""
    domid = dom0.run(f"xl domid {tiny}")
    dom0.run(f"croft-sched -d {tiny} -v 1 -w 300 --warp 10 --limit 2 --unwarp 20")
    lines = dom0.run(f"croft-sched -d {tiny}").splitlines()
    assert [line.split()[:6] for line in lines[1:3]] == [[domid, "0", "256", "0.000", "0.000", "0.000"],
                                                         [domid, "1", "300", "10.000", "2.000", "20.000"]]
    assert re.match(r"context-switch allowance: \d+ us$", lines[3])
    dom0.run(f"croft-sched -d {tiny} -v 1 -w 256 --warp 0 --limit 0 --unwarp 0")
    dom0.run("croft-sched --allowance 3000")
    assert "allowance: 3000 us" in dom0.run("croft-sched")
    dom0.run("croft-sched --allowance " + re.search(r"(\d+) us", lines[3]).group(1))
    assert "no such" in dom0.run("! croft-sched -d 77 2>&1")
    assert "out of range" in dom0.run("! croft-sched --allowance 2000000 2>&1")


def test_network_attach_and_detach(dom0, tiny):
    dom0.run(f"xl network-attach {tiny} mac=00:16:3e:09:00:55 bridge=xenbr0")
    lines = dom0.run(f"xl network-list {tiny}").splitlines()
    assert len(lines) == 3 and "00:16:3e:09:00:55" in lines[2]
    with dom0.guest_console(tiny) as guest:
        guest.run("ls /sys/class/net/eth1; ifconfig eth1 10.9.0.55 netmask 255.255.255.0 up")
    dom0.run(f"xl network-detach {tiny} 1")
    assert len(dom0.run(f"xl network-list {tiny}").splitlines()) == 2
    with dom0.guest_console(tiny) as guest:
        guest.run("! ls /sys/class/net/eth1")


def test_block_attach_and_detach(dom0, tiny):
    dom0.run("head -c 16M /dev/urandom >/root/disk; losetup /dev/loop3 /root/disk")
    want = dom0.run("md5sum </root/disk")
    dom0.run(f"xl block-attach {tiny} phy:/dev/loop3,xvdb,r")
    assert len(dom0.run(f"xl block-list {tiny}").splitlines()) == 2
    with dom0.guest_console(tiny) as guest:
        assert guest.run("md5sum </dev/xvdb", 60) == want
    dom0.run(f"xl block-detach {tiny} xvdb")
    assert len(dom0.run(f"xl block-list {tiny}").splitlines()) == 1
    with dom0.guest_console(tiny) as guest:
        guest.run("! ls /dev/xvdb")
    dom0.run("losetup -d /dev/loop3; rm /root/disk")


def test_dump_core(dom0, tiny, request):
    if "pvh" in request.node.name:
        pytest.skip("of a PVH guest the tools try each frame up to its highest, some 900,000 of them: more than ten minutes here")
    dom0.run(f"xl dump-core {tiny} /root/core", timeout=120)
    assert int(dom0.run("stat -c %s /root/core")) > 120 << 20
    assert dom0.run("head -c 4 /root/core | tail -c 3") == "ELF"
    dom0.run("rm /root/core")
    with dom0.guest_console(tiny) as guest:
        guest.run("true")


# Save and restore

def test_save_and_restore(dom0, tiny):
    with dom0.guest_console(tiny) as guest:
        # CLOCK_REALTIME in seconds and CLOCK_MONOTONIC in nanoseconds
        guest.run("memory=kept; (while sleep 0.5; do echo $(date +%s) $(awk '/^now at/ { print $3 }' /proc/timer_list)"
                  " >>/www/ticks; done) & true")
    dom0.run(f"xl save {tiny} /root/save", timeout=120)
    dom0.run(f"! xl domid {tiny}")
    dom0.run("sleep 8; xl restore /root/save", timeout=120)
    start = int(dom0.run("date +%s"))
    with dom0.guest_console(tiny) as guest:
        now = int(guest.run("date +%s"))
        assert guest.run("echo $memory") == "kept"
        before = int(guest.run("wc -l </www/ticks"))
        time.sleep(3)
        assert int(guest.run("wc -l </www/ticks")) > before
        assert guest.run("nproc") == "2"
    assert start - 1 <= now <= int(dom0.run("date +%s")) + 1, "the guest's wall clock is right"
    dom0.wait_until("curl -sS -m 2 http://tiny/", 30)
    ticks = [line.split() for line in dom0.run("curl -sS http://tiny/ticks").splitlines()]
    for clock in 0, 1:
        values = [int(tick[clock]) for tick in ticks]
        assert values == sorted(values), f"a clock of the guest went back: {ticks}"


def test_a_cut_save_file_is_refused(dom0, tiny):
    dom0.run("head -c 20M /root/save >/root/cut; sed 's/\"tiny\"/\"copy\"/' /etc/xen/tiny.cfg >/root/copy.cfg")
    output = dom0.run("! xl restore /root/copy.cfg /root/cut 2>&1", timeout=120)
    assert re.search(r"truncated|read.*fail|fail.*read|Short read|stream|unexpected", output, re.I), output
    dom0.run("! xl domid copy 2>/dev/null; rm /root/cut")


def test_save_with_checkpoint(dom0, tiny):
    dom0.run(f"xl save -c {tiny} /root/save", timeout=120)
    with dom0.guest_console(tiny) as guest:
        assert guest.run("echo $memory") == "kept"
    dom0.run(f"xl destroy {tiny}; xl restore /root/save", timeout=120)
    with dom0.guest_console(tiny) as guest:
        assert guest.run("echo $memory") == "kept"
    dom0.run("rm /root/save")


# Less memory than there could be: a PVH guest has it populated on demand

def mem_total(m, guest):
    """What the guest says that it has, in MiB"""
    with m.guest_console(guest) as console:
        return int(console.run("grep MemTotal /proc/meminfo").split()[1]) // 1024


def test_memory_below_maxmem(dom0, free_at_start):
    before = dom0.free_pages()
    dom0.create("tiny", "'name=\"low\"' 'vif=[]' memory=128 maxmem=256")
    taken = before - dom0.free_pages()
    assert 128 * 256 <= taken < 144 * 256, f"{taken} pages"
    dom0.guest_says("low", UP)
    dom0.wait_until("xl list low | grep -E 'low +[0-9]+ +12[89] '", 60)
    with dom0.guest_console("low") as guest:
        guest.login(TINY)
        digest = guest.run("dd if=/dev/urandom of=/kept bs=1M count=24 2>/dev/null; md5sum </kept", 60)
        assert guest.run("wc -c </kept") == str(24 << 20)
    small = mem_total(dom0, "low")
    dom0.run("xl mem-set low 200")
    dom0.wait_until("xl list low | grep -E 'low +[0-9]+ +(199|200|201) '", 60)
    assert 70 <= mem_total(dom0, "low") - small <= 74
    with dom0.guest_console("low") as guest:  # all that it has can be used
        guest.run("mkdir /much; mount -t tmpfs -o size=100m much /much", 60)  # the root has half of what a PV guest began with
        guest.run("dd if=/dev/urandom of=/much/file bs=1M count=70 2>/dev/null && umount /much", 120)
        assert guest.run("md5sum </kept", 60) == digest
    dom0.run("xl mem-set low 112")
    dom0.wait_until("xl list low | grep -E 'low +[0-9]+ +11[123] '", 60)
    dom0.run("xl mem-set low 128")
    dom0.wait_until("xl list low | grep -E 'low +[0-9]+ +12[789] '", 60)
    assert small - 1 <= mem_total(dom0, "low") <= small + 1
    dom0.audit()


def test_save_and_restore_below_maxmem(dom0):
    with dom0.guest_console("low") as guest:
        digest = guest.run("md5sum </kept", 60)
    dom0.run("xl save low /root/low; xl restore /root/low", timeout=240)
    with dom0.guest_console("low") as guest:
        assert guest.run("md5sum </kept", 60) == digest
        guest.run("mount -t tmpfs -o size=100m much /much && dd if=/dev/urandom of=/much/file bs=1M count=8 2>/dev/null && umount /much", 60)
    dom0.run("xl mem-set low 160")
    dom0.wait_until("xl list low | grep -E 'low +[0-9]+ +(159|160|161) '", 60)
    dom0.audit()
    dom0.run("xl destroy low; rm /root/low")
    dom0.destroyed("low")


def test_a_guest_that_does_not_balloon(dom0, request):
    """It uses more than it was given, without a balloon driver: it is crashed, and the log says why."""
    if "pvh" not in request.node.name:
        pytest.skip("a PV guest is given no more than it has")
    dom0.run("xl dmesg -c >/dev/null")
    use = "mkdir,/m;mount,-t,tmpfs,-o,size=95%,t,/m;dd,if=/dev/urandom,of=/m/x,bs=1M,count=200"
    dom0.create("tiny", "'name=\"greedy\"' 'vif=[]' memory=128 maxmem=256 "
                f"'extra=\"console=hvc0 quiet initcall_blacklist=balloon_init tiny.run={use}\"'")
    dom0.destroyed("greedy", 180)
    assert re.search(r"crashed: it uses more than its 'memory', \d+ KiB, and has not given back what 'maxmem' is above it",
                     dom0.run("xl dmesg"))


# Bad input

def test_more_memory_than_is_free(dom0):
    output = dom0.run("! xl create /etc/xen/tiny.cfg 'name=\"large\"' memory=100000 2>&1")
    assert re.search(r"failed to free memory|Out of memory|Cannot allocate memory", output, re.I), output
    dom0.run("! xl domid large 2>/dev/null")


def test_a_kernel_that_is_not_pv(dom0):
    output = dom0.run("! xl create /etc/xen/tiny.cfg 'name=\"text\"' 'kernel=\"/etc/services\"' 2>&1")
    assert re.search(r"no loader|not.*ELF|kernel|build failed", output, re.I), output
    dom0.run("! xl domid text 2>/dev/null")


def test_a_domain_that_is_gone(dom0):
    for command in ("pause 77", "unpause 77", "vcpu-list 77", "dump-core 77 /root/core", "destroy 77", "console 77"):
        output = dom0.run(f"xl {command} 2>&1", check=False)
        assert re.search(r"No such process|not exist|invalid domain|Getting infolist|unable|can't", output, re.I), output


def test_second_destroy(dom0):
    dom0.run("xl create -p /etc/xen/tiny.cfg 'name=\"twice\"'")
    domid = dom0.run("xl domid twice")
    dom0.run("xl destroy twice")
    assert dom0.run("! xl destroy twice 2>&1")
    assert dom0.run(f"! xl destroy {domid} 2>&1")


# The end

def test_reboot(dom0, tiny):
    domid = int(dom0.run(f"xl domid {tiny}"))
    dom0.run(f"rm /var/log/xen/console/*; xl reboot {tiny}")
    dom0.wait_until(f"[ $(xl domid {tiny}) -gt {domid} ]", 60)
    dom0.guest_says(tiny, UP)


def test_shutdown(dom0, tiny):
    dom0.run(f"xl shutdown -w {tiny}", timeout=120)
    dom0.destroyed(tiny)


def test_destroy(dom0):
    dom0.create("tiny")
    dom0.run("xl destroy tiny")
    dom0.run("! xl domid tiny")


def test_a_guest_that_crashes(dom0):
    """on_crash is destroy by default."""
    dom0.create("tiny", "'extra=\"console=hvc0 quiet panic=1 tiny.run=echo,c>/proc/sysrq-trigger\"'")
    dom0.destroyed("tiny")


def test_nothing_is_lost(dom0, free_at_start):
    assert len(dom0.run("xl list").splitlines()) == 2
    dom0.expect_free_pages(free_at_start)
    dom0.audit()
    dom0.check_logs()


def test_power_off(dom0):
    dom0.power_off()
