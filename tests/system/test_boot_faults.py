"""Each allocation of Croft's own boot fails once, by fault injection (option fail_allocation): the machine goes on with less, or it
stops and says in one line what it had no memory for."""
import os
import re
import subprocess
import time

import pytest

from machine import BUILD, LOGS

WRONG = re.compile(r"BUG|fault at|exception|double fault|Unhandled", re.I)


def boot(number):
    """The console of a boot with a tiny domain 0, until all is over."""
    path = os.path.join(LOGS, "boot-faults.log")
    os.makedirs(LOGS, exist_ok=True)
    with open(path, "w", encoding="utf-8"):
        pass
    qemu = subprocess.Popen(
        ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max,smap=off", "-m", "128", "-smp", "2", "-no-reboot", "-net", "none",
         "-display", "none", "-monitor", "none", "-serial", f"file:{path}", "-kernel", os.path.join(BUILD, "croft.elf"),
         "-initrd", os.path.join(BUILD, "tests/guests/hello.elf") + " alpha beta",
         "-append", f"console=com1 com1=115200,8n1 dom0_mem=64M noreboot fail_allocation={number}"])
    try:
        end = time.monotonic() + 60
        while True:
            off = qemu.poll() is not None
            with open(path, encoding="utf-8", errors="replace") as f:
                log = f.read()
            if off or re.search(r"the machine is halted|halting", log):
                return log
            assert time.monotonic() < end, f"allocation {number}: no end\n{log}"
            time.sleep(0.05)
    finally:
        qemu.kill()
        qemu.wait()


def judge(number):
    """False: so many allocations are not made."""
    log = boot(number)
    if "fault injection" not in log:
        assert "GUEST hello: PASS" in log
        return False
    rest = log[log.index("fault injection"):]
    ends = re.findall(r"(?:PANIC|ERROR).*", rest)
    assert not WRONG.search(rest), f"allocation {number}:\n{rest}"
    if "GUEST hello: PASS" not in rest:
        assert len(ends) == 1 and "memory" in ends[0], f"allocation {number}:\n{rest}"
    return True


@pytest.mark.xdist_group("nmi")
def test_each_allocation_of_the_boot_fails():
    number = 1
    while judge(number):
        number += 1
    assert number > 20
