"""An NMI in front of every instruction of the entry code that the tiny guests execute: nobody notices.

QEMU stops at each instruction of the section .text.entry for the first time that it is reached, by way of its debugger's stub; there
an NMI is sent, which the processor takes before that instruction.
"""
import importlib.machinery
import importlib.util
import os
import re
import socket
import subprocess
import tempfile
import time

import pytest

from machine import BUILD, LOGS, ROOT

GUESTS = ("syscalls", "traps", "segments", "multicall")
RIP = 16  # its place among the registers that the stub sends


def load_run():
    loader = importlib.machinery.SourceFileLoader("guests_run", os.path.join(ROOT, "tests/guests/run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def symbols(path):
    return {line.split()[2]: int(line.split()[0], 16) for line in output("nm", path).splitlines() if " T " in line}


def entry_code():
    """Addresses of its instructions. The section's start: a symbol's address less its offset in the object file."""
    obj = os.path.join(BUILD, "hypervisor/pv/entry.S.o")
    in_image = symbols(os.path.join(BUILD, "croft.elf"))
    start, = {in_image[name] - offset for name, offset in symbols(obj).items()}
    code = output("objdump", "-d", "-j", ".text.entry", obj)
    return {start + int(offset, 16) for offset in re.findall(r"^ +([0-9a-f]+):\t", code, re.M)}


class Stub:
    """QEMU's side of the debugger's remote protocol"""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(1)
        end = time.monotonic() + 10
        while True:
            try:
                self.socket.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):  # QEMU has not made it, or does not listen yet
                assert time.monotonic() < end
                time.sleep(0.05)
        self.read = b""

    def send(self, text):
        data = text.encode()
        self.socket.sendall(b"$" + data + b"#%02x" % (sum(data) & 0xff))

    def receive(self):
        while True:
            match = re.search(rb"\$([^#]*)#..", self.read)
            if match:
                self.read = self.read[match.end():]
                self.socket.sendall(b"+")
                return match.group(1).decode()
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self.read += data

    def ask(self, text):
        self.send(text)
        return self.receive()

    def command(self, text):
        """Has QEMU's monitor carry out a command."""
        answer = self.ask("qRcmd," + text.encode().hex())
        while answer not in ("OK", ""):  # what it prints comes first
            assert answer.startswith("O"), answer
            answer = self.receive()

    def rip(self):
        registers = self.ask("g")
        return int.from_bytes(bytes.fromhex(registers[RIP * 16:RIP * 16 + 16]), "little")


def run_with_nmis(name, left):
    """Runs a guest; NMIs at the addresses in left that it comes to, which are taken out. Returns its console, and what ends it."""
    run = load_run()
    conf = run.settings(name, "", "1")
    conf["audit"] = "no"
    ends = re.compile(conf.get("expect", f"GUEST {name}: "))
    path = os.path.join(LOGS, f"nmi-{name}.log")
    os.makedirs(LOGS, exist_ok=True)

    def console():
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()

    with tempfile.TemporaryDirectory() as folder, open(path, "wb") as log:
        gdb = os.path.join(folder, "gdb")
        words = run.command(name, conf, os.path.join(BUILD, "croft.elf")) + ["-S", "-gdb", f"unix:{gdb},server=on,wait=off"]
        qemu = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            stub = Stub(gdb)
            for address in left:
                assert stub.ask(f"Z0,{address:x},1") == "OK"
            end = time.monotonic() + 100
            stub.send("c")
            while True:
                try:
                    stop = stub.receive()
                except TimeoutError:
                    if ends.search(console()):
                        return console(), ends.pattern
                    assert time.monotonic() < end, console()[-2000:]
                    continue
                assert stop.startswith("T05"), stop
                address = stub.rip()
                assert address in left, f"stopped at {address:#x}"
                left.remove(address)
                assert stub.ask(f"z0,{address:x},1") == "OK"
                stub.command("nmi")
                stub.send("c")
        finally:
            qemu.kill()
            qemu.wait()


@pytest.mark.xdist_group("nmi")
def test_nmi_before_each_instruction():
    code = entry_code()
    left = set(code)
    for name in GUESTS:
        before = len(left)
        log, ends = run_with_nmis(name, left)
        print(f"{name}: NMIs before {before - len(left)} instructions")
        assert re.search(ends + "PASS" if ends.startswith("GUEST") else ends, log), log[-2000:]
        assert "PANIC" not in log and "BUG" not in log
    print(f"{len(code) - len(left)} of {len(code)} instructions")
    assert len(code) - len(left) > 600
