"""Domains without tools that end: started anew, or not. Beside a domain 0: test_tools.py."""
import re

import pytest

from machine import guest_modules

NEVER = re.compile(r"WARNING:|BUG|PANIC|Bad FPU|invalid opcode|segfault|audit: [1-9]")
SETTINGS = {"disk": "none", "net": "none", "kernel": "", "croft_args": "noreboot"}


def free_kib(m):
    m.keyboard_to("Croft")
    m.send("m")
    return int(m.expect(r"memory: (\d+) of \d+ KiB free", 30).group(1))


def audit(m):
    m.keyboard_to("Croft")
    m.send("a")
    m.expect(r"audit: 0 findings", 120)


def check_console(m):
    for line in m.console().splitlines():
        assert not NEVER.search(line), line


@pytest.mark.parametrize("kind,vcpus", [("pv", 2), ("pvh", 1), pytest.param("pv", 1, marks=pytest.mark.extra),
                                        pytest.param("pvh", 2, marks=pytest.mark.extra)])
def test_reboot(machine, kind, vcpus):
    """It comes again: its number is another, all else as it was; another domain goes on meanwhile, and the memory is all there."""
    m = machine(memory=768, cpus=2, limit=600, **SETTINGS,
                modules=guest_modules(f"domain=one memory=192M type={kind} vcpus={vcpus} cpus=0 -- console=hvc0 quiet",
                                      "domain=two memory=128M cpus=1 -- console=hvc0 quiet tiny.run=ticks"))
    for _ in range(2):
        m.expect(r"\(one\) tiny: up after|\(two\) tick 1,", 200)
    free = free_kib(m)
    for number in (3, 4):
        m.keyboard_to("domain one")
        m.send("echo cpus $(nproc) on $((40 + 2)); reboot -f\n")
        m.expect(rf"\n\(one\) cpus {vcpus} on 42\r?\n", 60)
        m.expect(r"\(CROFT\) d\d shut down: reboot", 60)
        m.expect(rf"\(CROFT\) d{number}, domain one, starts", 60)
        m.expect(rf"\(one\) tiny: up after \S+ s, {vcpus} CPUs", 200)
        m.send("echo the keyboard is still $((40 + 2))\n")
        m.expect(r"\n\(one\) the keyboard is still 42\r?\n", 60)
        audit(m)
        assert free_kib(m) == free
    m.send("q")
    m.expect(r"\(CROFT\) d4: \d+ of %u pages, %u vcpus\r?\n" % (192 * 256 + (3 if kind == "pvh" else 0), vcpus), 30)
    m.keyboard_to("domain one")
    m.send("poweroff -f\n")
    m.expect(r"\(CROFT\) domain one is gone", 60)
    assert free_kib(m) > free + 192 * 1024
    last = int(m.expect(r"\(two\) tick (\d+),", 30).group(1))
    ticks = [(int(n), float(up)) for n, up in re.findall(r"^\(two\) tick (\d+), up (\S+)$", m.console(), re.M)]
    assert [n for n, _ in ticks] == list(range(1, last + 1))
    assert max(after - before for (_, before), (_, after) in zip(ticks, ticks[1:])) < 20  # a busy host takes some
    check_console(m)


@pytest.mark.extra
@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_twenty_times(machine, kind):
    """After twenty times there is as much memory as after the first."""
    m = machine(memory=512, cpus=1, limit=900, **SETTINGS,
                modules=guest_modules(f"domain=one memory=96M type={kind} restarts=unlimited -- console=hvc0 quiet"))
    m.expect(r"\(one\) tiny: up after", 200)
    free = free_kib(m)
    for number in range(2, 22):
        m.keyboard_to("domain one")
        m.send("reboot -f\n")
        m.expect(rf"\(CROFT\) d{number}, domain one, starts", 60)
        m.expect(r"\(one\) tiny: up after", 200)
    assert free_kib(m) == free
    audit(m)
    check_console(m)


def test_loop(machine):
    """One that crashes again and again is given up, and with it the machine; what it said last is on the console."""
    m = machine(memory=384, cpus=1, **SETTINGS,
                modules=guest_modules("domain=loop memory=128M on_crash=restart restarts=2 -- console=hvc0 "
                                      "tiny.run=echo,c>/proc/sysrq-trigger"))
    for text in (r"\(1 of 2 times in a row\)", r"\(2 of 2 times in a row\)"):
        m.expect(r"\(CROFT\) d\d shut down: crash", 200)
        m.expect(r"\(CROFT\) domain loop ended less than a minute after its start and is started anew " + text, 60)
        m.expect(r"\(CROFT\) d\d, domain loop, starts", 60)
    m.expect(r"\(CROFT\) domain loop ended less than a minute after its start, 3 times in a row: it is not started anew", 200)
    m.expect(r"\(CROFT\) domain loop is gone", 60)
    m.expect(r"\(CROFT\) all domains have ended", 30)
    assert len(re.findall(r"^\(loop\) .*\] Kernel panic - not syncing", m.console(), re.M)) == 3


def test_words(machine):
    """preserve; a restart after power-off, and the limit of it; destroy, with which nothing is kept."""
    m = machine(memory=512, cpus=1, **SETTINGS,
                modules=guest_modules("domain=one memory=96M on_reboot=preserve -- console=hvc0 quiet tiny.run=reboot,-f",
                                      "domain=two memory=96M type=pvh on_poweroff=restart on_reboot=destroy restarts=1 -- "
                                      "console=hvc0 quiet",
                                      "domain=three memory=96M on_reboot=destroy -- console=hvc0 quiet tiny.run=reboot,-f"))
    for _ in range(3):
        m.expect(r"\(CROFT\) domain one stays as it is|\(CROFT\) domain three is gone|\(two\) tiny: up after", 200)
    kept = re.findall(r"domain (\w+): (\d+) KiB of it and its initrd stay in memory", m.console())
    assert [name for name, _ in kept] == ["two"]
    m.keyboard_to("Croft")
    m.send("q")
    m.expect(r"\(CROFT\) d1: \d+ of \d+ pages, 1 vcpus, paused, shut down", 30)
    audit(m)
    m.keyboard_to("domain two")
    m.send("poweroff -f\n")
    m.expect(r"\(CROFT\) d4, domain two, starts", 60)
    m.expect(r"\(two\) tiny: up after", 200)
    m.send("poweroff -f\n")
    m.expect(r"\(CROFT\) domain two ended less than a minute after its start, 2 times in a row: it is not started anew", 60)
    m.expect(r"\(CROFT\) all domains have ended", 30)
