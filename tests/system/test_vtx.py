"""VT-x with EPT: PVH kernels in Bochs, the emulator in Debian that has it. Slow, so not part of `make check`: `make check-vtx`."""
import os
import socket
import subprocess

import pexpect
import pexpect.fdpexpect
import pytest

from machine import guest_modules

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GUESTS = os.path.join(ROOT, "tests/guests")
LOGS = os.path.join(ROOT, "build/logs/vtx")
pytestmark = pytest.mark.extra


def guests():
    return sorted(name for name in os.listdir(GUESTS) if name.startswith("pvh_"))


@pytest.mark.parametrize("name", guests())
def test_vtx_guest(name):
    done = subprocess.run([os.path.join(GUESTS, "run"), "--bochs", "--logs", LOGS, name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with open(os.path.join(LOGS, name + ".log"), encoding="utf-8") as log:
        assert "hardware-assisted domains: VT-x with nested paging" in log.read()


@pytest.fixture
def bochs():
    """Starts Croft with these modules and no domain 0 in Bochs; returns its serial line."""
    ended = []

    def start(name, modules, **settings):
        os.makedirs(LOGS, exist_ok=True)
        iso = os.path.join(LOGS, name + ".iso")
        subprocess.run([os.path.join(ROOT, "tools/mk-iso"), iso], check=True,
                       env=dict(os.environ, KERNEL="", MODULES=modules, CROFT_ARGS="console=com1 com1=115200,8n1 noreboot"))
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(30)
        log = open(os.path.join(LOGS, name + ".log"), "w", encoding="utf-8")
        process = subprocess.Popen([os.path.join(ROOT, "tools/bochs"), iso, "127.0.0.1:%u" % listener.getsockname()[1]],
                                   env=dict(os.environ, **settings), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ended.append((process, listener, log, iso))
        connection = listener.accept()[0]
        ended.append((None, connection, None, None))
        return pexpect.fdpexpect.fdspawn(connection.fileno(), encoding="utf-8", codec_errors="replace", logfile=log)

    yield start
    for process, line, log, iso in reversed(ended):
        if process:
            process.kill()
            process.wait()
            log.close()
            os.remove(iso)
        line.close()


@pytest.mark.parametrize("vcpus", [1, 2])
def test_vtx_debian(bochs, vcpus):
    """The stock kernel as PVH, without tools: programs on all vcpus, a CPU off line and on again, its power-off, Croft's audit.

    Each vcpu has a CPU: Bochs 2.7 does not take one away from a kernel that waits with interrupts disabled (docs/status.md)."""
    line = bochs(f"debian-{vcpus}", guest_modules(f"domain=one type=pvh memory=192M vcpus={vcpus} -- console=hvc0 loglevel=6"),
                 MEMORY="512", CPUS=str(vcpus))
    line.expect("hardware-assisted domains: VT-x with nested paging", 120)
    line.expect("tiny: up after", 600)
    line.send("echo cpus $(nproc) $((6 * 7)) $(cat /sys/hypervisor/guest_type)\n")
    line.expect(rf"\(one\) cpus {vcpus} 42 PVH\r?\n", 120)
    if vcpus > 1:
        line.send("cd /sys/devices/system/cpu/cpu1; echo 0 > online; echo off $(cat ../online); echo 1 > online; echo on $(cat ../online)\n")
        line.expect(r"\(one\) off 0\r?\n", 120)
        line.expect(r"\(one\) on 0-1\r?\n", 120)
    line.send("\x01\x01\x01a")
    line.expect(r"audit: (\d+) findings", 120)
    assert line.match.group(1) == "0"
    line.send("\x01\x01\x01poweroff -f\n")
    line.expect(r"d1 shut down: power off", 120)
    line.expect(r"all domains have ended", 60)
