"""Domains without tools: Croft itself builds and starts what its boot modules describe, with a domain 0 and without."""
import os
import re

import pytest
from machine import BUILD

KERNEL = os.path.join(BUILD, "vmlinuz")
TINY = os.path.join(BUILD, "guest-initrd.img")
SWITCH = "\x01\x01\x01"


def modules(*texts):
    """Boot modules for Debian's kernel with the tiny initrd, one pair for each text."""
    return "\n".join(f"{KERNEL} {text}\n{TINY} initrd" for text in texts)


def keyboard_to(m, whom):
    for _ in range(4):
        m.send(SWITCH)
        if m.expect(r"the keyboard is (\S+ ?\S+)'s now", 30).group(1) == whom:
            return
    raise AssertionError(f"the keyboard never gets to {whom}")


def audit(m):
    keyboard_to(m, "Croft")
    m.send("a")
    m.expect(r"audit: 0 findings", 120)


@pytest.mark.parametrize("boot", ["kernel", pytest.param("bios", marks=pytest.mark.extra)])
def test_two_domains_and_no_domain_0(machine, boot):
    m = machine(boot=boot, disk="none", net="none", kernel="", memory=768, cpus=2, croft_args="noreboot",
                modules=modules("domain=one memory=192M -- console=hvc0 loglevel=6",
                                "domain=two memory=160M vcpus=2 cpus=1 -- console=hvc0 quiet"))
    up = {m.expect(r"\((one|two)\) tiny: up after", 200).group(1) for _ in range(2)}
    assert up == {"one", "two"}
    keyboard_to(m, "domain two")
    m.send("echo cpus $(nproc) $((6 * 7))\n")
    m.expect(r"\n\(two\) cpus 2 42\r?\n", 60)
    audit(m)
    keyboard_to(m, "domain one")
    m.send("free -m | grep Mem; poweroff -f\n")
    total = int(m.expect(r"\n\(one\) Mem: +(\d+)", 60).group(1))
    assert 80 < total < 192
    m.expect(r"\(CROFT\) d1 shut down: power off", 60)
    keyboard_to(m, "domain two")
    m.send("poweroff -f\n")
    m.expect(r"\(CROFT\) d2 shut down: power off", 60)
    m.expect(r"\(CROFT\) all domains have ended", 30)
    # Lines of the two do not mix.
    for line in m.console().splitlines():
        assert not re.search(r"\S.*\((one|two)\) \[", line), line


def test_beside_domain_0(machine):
    m = machine(daemons=True, memory=1536, modules=modules("domain=alone memory=160M -- console=hvc0 quiet"))
    m.expect(r"\(alone\) tiny: up after", 200)
    m.login()
    assert re.search(r"^\S+ +1 +160 +1 +[-b]", m.run("xl list"), re.M)
    m.run("xl pause 1; xl unpause 1; xl vcpu-pin 1 all 0 all")
    free = int(m.run("xl info free_memory"))
    m.run("xl destroy 1")
    m.wait_until("! xl list 1 2>/dev/null", 60)
    assert int(m.run("xl info free_memory")) >= free + 155
    audit(m)


@pytest.mark.parametrize("text,says", [
    ("domain=x memory=lots -- a", r"boot module 1, which is to be a domain's kernel: 'memory=lots' is malformed"),
    ("domain=x memory=6M -- a", r"domain x's memory of 6 MiB is too small for its kernel and initrd: give at least memory=\d+M"),
    ("domain=x memory=100G -- a", r"domain x: memory asks for 102400 MiB, but only \d+ MiB are free: give less"),
    ("domain=x cpus=7 memory=100M -- a", r"domain x: none of the CPUs that cpus= names is there"),
])
def test_refused(machine, text, says):
    m = machine(disk="none", net="none", kernel="", memory=256, croft_args="noreboot", modules=modules(text))
    m.expect(says, 60)
