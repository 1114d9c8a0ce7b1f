"""Domains without tools and without a domain 0: Croft itself builds and starts what its boot modules describe. Beside a domain 0:
test_tools.py."""
import re

import pytest

from machine import guest_modules


def audit(m):
    m.keyboard_to("Croft")
    m.send("a")
    m.expect(r"audit: 0 findings", 120)


@pytest.mark.parametrize("boot", ["kernel", pytest.param("bios", marks=pytest.mark.extra)])
def test_two_domains_and_no_domain_0(machine, boot):
    m = machine(boot=boot, disk="none", net="none", kernel="", memory=768, cpus=2, croft_args="noreboot",
                modules=guest_modules("domain=one memory=192M -- console=hvc0 loglevel=6",
                                      "domain=two memory=160M vcpus=2 cpus=1 type=pvh -- console=hvc0 quiet"))
    up = {m.expect(r"\((one|two)\) tiny: up after", 200).group(1) for _ in range(2)}
    assert up == {"one", "two"}
    m.keyboard_to("domain two")
    m.send("echo cpus $(nproc) $((6 * 7)) $(cat /sys/hypervisor/guest_type)\n")
    m.expect(r"\n\(two\) cpus 2 42 PVH\r?\n", 60)
    audit(m)
    m.keyboard_to("domain one")
    m.send("free -m | grep Mem; poweroff -f\n")
    total = int(m.expect(r"\n\(one\) Mem: +(\d+)", 60).group(1))
    assert 80 < total < 192
    m.expect(r"\(CROFT\) d1 shut down: power off", 60)
    m.keyboard_to("domain two")
    m.send("poweroff -f\n")
    m.expect(r"\(CROFT\) d2 shut down: power off", 60)
    m.expect(r"\(CROFT\) all domains have ended", 30)
    # Lines of the two do not mix.
    for line in m.console().splitlines():
        assert not re.search(r"\S.*\((one|two)\) \[", line), line


@pytest.mark.parametrize("vcpus,cpus", [(4, 2), pytest.param(8, 1, marks=pytest.mark.extra)])
def test_pvh_vcpus(machine, vcpus, cpus):
    """Programs on all vcpus, timers, vcpus that go off line (HLT) and come back (INIT and start-up), and a reboot."""
    m = machine(disk="none", net="none", kernel="", memory=512, cpus=cpus, croft_args="noreboot",
                modules=guest_modules(f"domain=pvh memory=256M vcpus={vcpus} type=pvh -- console=hvc0 loglevel=6"))
    m.expect(r"tiny: up after", 200)
    m.send("for c in $(seq 0 $(($(nproc) - 1))); do taskset -p $((1 << c)) $$ >/dev/null && sleep 0.2 && echo ran on $((c + 0)); done\n")
    for c in range(vcpus):
        m.expect(rf"\(pvh\) ran on {c}\r?\n", 60)
    m.send("cd /sys/devices/system/cpu/cpu1; echo 0 > online; echo off $(cat ../online); echo 1 > online; echo on $(cat ../online)\n")
    m.expect(rf"\(pvh\) off 0,2-{vcpus - 1}\r?\n", 60)
    m.expect(rf"\(pvh\) on 0-{vcpus - 1}\r?\n", 60)
    audit(m)
    m.keyboard_to("domain pvh")
    m.send("reboot -f\n")
    m.expect(r"\(CROFT\) d1 shut down: reboot", 60)
    for line in m.console().splitlines():
        assert not re.search(r"WARNING:|BUG|Bad FPU|invalid opcode|segfault", line), line


def test_pvh_needs_the_processor(machine):
    m = machine(disk="none", net="none", kernel="", memory=256, croft_args="noreboot", cpu="max,smap=off,svm=off",
                modules=guest_modules("domain=x memory=100M type=pvh -- a"))
    m.expect(r"domain x: type=pvh is not possible on this machine: the processor has neither AMD-V", 60)


@pytest.mark.parametrize("text,says", [
    ("domain=x memory=lots -- a", r"boot module 1, which is to be a domain's kernel: 'memory=lots' is malformed"),
    ("domain=x memory=6M -- a", r"domain x's memory of 6 MiB is too small for its kernel and initrd: give at least memory=\d+M"),
    ("domain=x memory=100G -- a", r"domain x: memory asks for 102400 MiB, but only \d+ MiB are free: give less"),
    ("domain=x cpus=7 memory=100M -- a", r"domain x: none of the CPUs that cpus= names is there"),
])
def test_refused(machine, text, says):
    m = machine(disk="none", net="none", kernel="", memory=256, croft_args="noreboot", modules=guest_modules(text))
    m.expect(says, 60)
