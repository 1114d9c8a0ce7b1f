"""What the scripts bench/sched-* share: they run scenarios of bench/sched/sched.c as domain 0 and judge the figures.

-icount makes the machine's time a count of instructions, 2**SHIFT ns each, of all CPUs together: runs are alike to the digit on
any host. A greater shift is a slower machine, on which a minute costs the host less, and on which the hypervisor's own
instructions weigh more. CROFT=FILE is another image of Croft; XEN=FILE is a Xen that is measured beside it.
"""
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUT = os.path.join(ROOT, "build", "bench")
CROFT = os.environ.get("CROFT", os.path.join(ROOT, "build", "croft.elf"))
XEN = os.environ.get("XEN")
GUEST = os.path.join(OUT, "sched.elf")
OPTIONS = "console=com1 com1=115200,8n1 dom0_mem=64M dom0_max_vcpus=1 noreboot"
ENDED = re.compile(r"GUEST sched: (PASS|FAIL.*)|the machine is halted|halting machine|^\((?:XEN|CROFT)\).*(?:FATAL|[Pp]anic)", re.M)

missed = 0


class Figures:
    """What one run printed."""

    def __init__(self, text):
        self.text = text
        found = re.search(r"figures elapsed (\d+) unit (\d+)", text)
        self.elapsed, self.unit = (int(found.group(1)), int(found.group(2))) if found else (0, 0)
        self.guests = [{"name": name, "weight": int(weight), "cpu": int(cpu), "work": int(work), "wakes": int(wakes)}
                       for name, weight, cpu, work, wakes in
                       re.findall(r"figures guest \d+ (\w+) weight (\d+) cpu (\d+) work (\d+) wakes (\d+)", text)]

    def cpu(self, guest):
        """Its part of one CPU, as the hypervisor accounts for it."""
        return guest["cpu"] / self.elapsed

    def work(self, guest):
        """The same by the work that it did."""
        return guest["work"] * self.unit / self.elapsed

    def numbers(self, line):
        """Of the first line that begins so: names and numbers in pairs."""
        found = re.search(rf"figures {line} (.*)", self.text).group(1).split()
        return dict(zip(found[::2], map(int, found[1::2])))


def run(scenario, hypervisor=None, shift=4, cpus=1, memory=256, qemu=(), limit=600, **numbers):
    hypervisor = hypervisor or CROFT
    log = os.path.join(OUT, f"sched-{scenario}-{os.path.basename(hypervisor)}.log")
    if os.path.exists(log):
        os.remove(log)
    guest = " ".join([GUEST, f"scenario={scenario}", *(f"{k}={v}" for k, v in numbers.items())])
    words = [os.environ.get("QEMU", "qemu-system-x86_64"), "-accel", "tcg", "-cpu", "max,smap=off", "-m", str(memory),
             "-smp", f"{cpus},sockets=1,cores={cpus}", "-icount", f"shift={shift},sleep=off", "-rtc", "clock=vm", "-no-reboot",
             "-nic", "none", "-display", "none", "-monitor", "none", "-serial", "file:" + log, "-kernel", hypervisor,
             "-initrd", guest, "-append", OPTIONS, *qemu]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        end, ended = time.monotonic() + limit, None
        try:  # a machine that halts does not end QEMU
            while not ended and process.poll() is None and time.monotonic() < end:
                time.sleep(0.2)
                ended = ENDED.search(read(log))
        finally:
            process.terminate()
    text = read(log)
    ended = ENDED.search(text)
    if not ended or ended.group(1) != "PASS":
        sys.exit(f"{scenario} on {hypervisor}: {ended.group(0) if ended else 'no end in time'} (log: {log})")
    return Figures(text)


def read(path):
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def both(scenario, **options):
    """On Croft, and on Xen if there is one (else None)."""
    on_xen = {k: v for k, v in options.items() if k != "warp"}
    return run(scenario, CROFT, **options), run(scenario, XEN, **on_xen) if XEN else None


def heading():
    print(f"{'':<58} {'measured':>10} {'limit':>12} {'Xen 4.17':>10}")


def row(what, value, limit, xen, form="{:.1f}", least=False):
    """A line of the table; limit None: only told, least: the value shall not be below it. xen: a number, or a text."""
    global missed  # pylint: disable=global-statement
    ok = limit is None or (value >= limit if least else value <= limit)
    missed += not ok
    shown = "" if limit is None else (">= " if least else "<= ") + form.format(limit)
    theirs = xen if isinstance(xen, str) else form.format(xen)
    print(f"{what:<58} {form.format(value):>10} {shown:>12} {theirs:>10}  {'' if limit is None else 'ok' if ok else 'MISSED'}",
          flush=True)


def finish():
    sys.exit(1 if missed else 0)
