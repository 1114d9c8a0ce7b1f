"""With SMAP: the tiny guests once more, in Bochs, for QEMU 7.2 cannot run them so (see CAVEATS.md)."""
import os
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GUESTS = os.path.join(ROOT, "tests/guests")
LOGS = os.path.join(ROOT, "build/logs/smap")
# Those that use or attack what SMAP changes: copies to and from the guest, bounce frames, iret
CHOSEN = ("badpointers", "crash_badstack", "grant0", "iret_hostile", "multicall", "pt_hostile", "syscalls", "traps")
# Left out: limits on how late a timer may be, which Bochs on a busy host does not keep; what only measures
TIMING = ("events", "random", "rate", "timers")


def guests():
    for name in sorted(os.listdir(GUESTS)):
        if not name.startswith("pvh_") and name != "kit" and os.path.isfile(os.path.join(GUESTS, name, name + ".c")) and name not in TIMING:
            yield pytest.param(name, marks=() if name in CHOSEN else pytest.mark.extra)


@pytest.mark.parametrize("name", guests())
def test_guest(name):
    done = subprocess.run([os.path.join(GUESTS, "run"), "--bochs", "--logs", LOGS, name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with open(os.path.join(LOGS, name + ".log"), encoding="utf-8") as log:
        assert " SMAP " in log.read()


@pytest.mark.extra
def test_debian():
    """The stock kernel reaches the program that is its init, and powers off."""
    build, iso, console = os.path.join(ROOT, "build"), os.path.join(LOGS, "debian.iso"), os.path.join(LOGS, "debian.log")
    os.makedirs(LOGS, exist_ok=True)
    subprocess.run([os.path.join(ROOT, "tools/mk-iso"), iso], check=True,
                   env=dict(os.environ, KERNEL_ARGS="console=hvc0 croft.test=nothing",
                            INITRD=os.path.join(build, "tiny-initrd.gz")))
    bochs = subprocess.Popen([os.path.join(ROOT, "tools/bochs"), iso, console], env=dict(os.environ, MEMORY="1024"),
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        bochs.wait(900)
    finally:
        bochs.kill()
        bochs.wait()
        os.remove(iso)
    with open(console, encoding="utf-8", errors="replace") as log:
        text = log.read()
    assert " SMAP " in text and "init: test" in text and "powers the machine off" in text
