"""A machine in QEMU that runs Croft: started by tools/qemu, spoken to over its serial console.

Used by the system tests, tools/demo and bench. Every wait has a limit; close() ends the emulator that was started.
"""
import contextlib
import functools
import hashlib
import http.server
import os
import random
import re
import shlex
import socket
import subprocess
import threading
import time

import pexpect
import pexpect.fdpexpect

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build")
LOGS = os.path.join(BUILD, "logs", "system")

# In domain 0's kernel log or on the console: something is broken.
KERNEL_TROUBLE = re.compile(r"\bBUG\b|\bWARNING:|Call Trace|\bOops\b|general protection fault|soft lockup|rcu: INFO"
                            r"|hung_task|blocked for more than|Kernel panic|UBSAN|unhandled")
CROFT_TROUBLE = re.compile(r"^.*\(CROFT\).*(?:\bBUG at|\bpanic\b|\bPANIC\b|domain 0 crashed).*$", re.M)


class Trouble(AssertionError):
    """What was expected did not come. Shows the end of the console's log."""


def check_stress(output):
    """What stress-ng --verify printed has no failure. One line is none: at its end stress-ng 0.15 sends its writer of a pipe
    two alarms, and if the second one interrupts the last write, calls that a failure; on the bare machine too."""
    ends = r"fail: +\[\d+\] pipe: termination write failed, errno=4 "
    if "successful run completed" not in output or "fail:" in re.sub(ends, "", output):
        raise Trouble(f"stress-ng failed:\n{output}")


def guest_modules(*texts):
    """Boot modules of domains without tools, one for each text: Debian's kernel and the tiny guest's initrd."""
    return "\n".join(f"{BUILD}/vmlinuz {text}\n{BUILD}/guest-initrd.img initrd" for text in texts)


class Machine:
    def __init__(self, name, *, limit=400, stream=None, croft_args="", kernel_args="", qemu_args=(), daemons=False, **settings):
        """settings are tools/qemu's variables in small letters (cpus=4, boot="uefi", memory=1024, ...); croft_args and
        kernel_args come after the usual ones. limit: seconds until it is ended, whatever it does.
        daemons: domain 0 starts Xen's daemons, to manage guests."""
        os.makedirs(LOGS, exist_ok=True)
        self.name = name
        self.log_path = os.path.join(LOGS, name + ".log")
        self.deadline = time.monotonic() + limit
        self.limit = limit
        self.stream = stream
        self.env = dict(os.environ)
        self.env.update({key.upper(): str(value) for key, value in settings.items()})
        self.env["CROFT_ARGS"] = f"console=com1 com1=115200,8n1 {croft_args}".strip()
        self.env["KERNEL_ARGS"] = " ".join(["root=LABEL=croft-root console=hvc0", *([] if daemons else ["croft.daemons=off"]),
                                            *([kernel_args] if kernel_args else [])])
        self.resets_path = os.path.join(LOGS, name + ".resets")  # QEMU's log of resets: a triple fault is one
        self.qemu_args = ["-no-reboot", "-d", "cpu_reset", "-D", self.resets_path, *qemu_args]
        self.process = self.socket = self.child = self.log = None
        self.on_xen = "xen" in os.path.basename(self.env.get("CROFT", ""))

    def start(self):
        if self.env.get("BOOT", "kernel") != "kernel":
            self.env["ISO"] = os.path.join(LOGS, self.name + ".iso")
            env = dict(self.env)
            env["CROFT"] = env.get("CROFT_GZ", os.path.join(BUILD, "croft.gz"))
            subprocess.run([os.path.join(ROOT, "tools/mk-iso"), self.env["ISO"]], env=env, check=True)
        self.log = open(self.log_path, "w", encoding="utf-8")
        # A socket pair instead of a pseudo-terminal: those need /dev/pts, which a plain chroot has not.
        self.socket, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen([os.path.join(ROOT, "tools/qemu"), *self.qemu_args], env=self.env,
                                            stdin=theirs, stdout=theirs, stderr=theirs)
        self.child = pexpect.fdpexpect.fdspawn(self.socket.fileno(), timeout=None, encoding="utf-8",
                                               codec_errors="replace", maxread=65536)
        self.child.delaybeforesend = None
        self.child.logfile_read = self
        return self

    __enter__ = start

    def __exit__(self, *_):
        self.close()

    # The file interface that pexpect writes the console's output to
    def write(self, text):
        self.log.write(text)
        if self.stream:
            self.stream.write(text)

    def flush(self):
        self.log.flush()
        if self.stream:
            self.stream.flush()

    def close(self):
        if self.child is not None:
            self.process.kill()
            self.process.wait()
            self.socket.close()
            self.child = None
            self.log.close()
            if "ISO" in self.env and self.env["ISO"].startswith(LOGS):
                os.unlink(self.env["ISO"])

    def console(self):
        """All that came over the serial line until now."""
        self.log.flush()
        with open(self.log_path, encoding="utf-8", newline="") as log:
            return log.read().replace("\r", "")

    def end(self):
        """How QEMU has ended, in words."""
        status = self.process.wait(timeout=30)
        with open(self.resets_path, encoding="utf-8", errors="replace") as resets:
            return f"QEMU ended with status {status}" + " by a triple fault" * ("Triple fault" in resets.read())

    def expect(self, pattern, timeout=120):
        """Waits for the regular expression on the console; returns the match. Text waited through is in child.before."""
        left = min(timeout, self.deadline - time.monotonic())
        index = self.child.expect([pattern, pexpect.EOF, pexpect.TIMEOUT], timeout=max(left, 0))
        if index:
            why = self.end() if index == 1 else f"{timeout} s passed" if left == timeout else f"limit of {self.limit} s"
            tail = "\n".join(self.console().splitlines()[-25:])
            raise Trouble(f"{self.name}: {why} before {pattern!r}. End of {self.log_path}:\n{tail}")
        return self.child.match

    def expect_end(self, timeout=120):
        """Waits until QEMU has ended by itself."""
        left = min(timeout, self.deadline - time.monotonic())
        if self.child.expect([pexpect.EOF, pexpect.TIMEOUT], timeout=max(left, 0)):
            raise Trouble(f"{self.name}: QEMU did not end. End of {self.log_path}:\n{self.console()[-1500:]}")
        status = self.process.wait(timeout=30)
        if status:
            raise Trouble(f"{self.name}: QEMU ended with status {status}")

    def send(self, text):
        """Types the text. Xen, to which tests are compared, loses what is typed faster than domain 0 takes it."""
        step = 16 if self.on_xen else len(text)
        for i in range(0, len(text), step):
            self.child.send(text[i:i + step])
            if self.on_xen:
                time.sleep(0.02)

    def login(self, timeout=300):
        """Logs in as root on Debian's console; afterwards run() works."""
        self.expect("croft login: ", timeout)
        self.send("root\n")
        self.expect(r"root@croft:~# ", 60)
        self.send("stty -echo; PS1=; dmesg -n 1\n")
        self.run("true")

    def run(self, command, timeout=60, check=True):
        """Runs a shell command in domain 0; returns its output. A status other than 0 is an error."""
        self.send(f"{command}; echo \"<end $?>\"\n")
        # A line of Croft's may come between the word and the end of its line.
        status = int(self.expect(r"<end (\d+)>(?:\(CROFT\)[^\r\n]*[\r\n]+)*[\r\n]", timeout).group(1))
        output = self.child.before.replace("\r", "").strip("\n")
        if check and status:
            raise Trouble(f"{self.name}: status {status} from: {command}\n{output}")
        return output

    def croft_key(self, key, pattern, timeout=60):
        """Switches the keyboard to Croft, presses a key, waits for the pattern, and switches back."""
        self.send("\x01\x01\x01" + key)
        match = self.expect(pattern, timeout)
        self.send("\x01\x01\x01")
        return match

    def keyboard_to(self, whom):
        """Switches the keyboard until it is Croft's, "domain 0"'s, or "domain NAME"'s."""
        for _ in range(20):
            self.send("\x01\x01\x01")
            if self.expect(r"the keyboard is (\S+|domain \S+)'s now[^\n]*\n", 30).group(1) == whom:
                return
        raise Trouble(f"{self.name}: the keyboard never gets to {whom}")

    def check_logs(self):
        """No sign of trouble in domain 0's kernel log nor on the console."""
        bad = [line for line in self.run("dmesg").splitlines() if KERNEL_TROUBLE.search(line)]
        bad += CROFT_TROUBLE.findall(self.console())
        if bad:
            raise Trouble(f"{self.name}: trouble in the logs:\n" + "\n".join(bad[:20]))

    def power_off(self, timeout=120):
        self.send("poweroff\n")
        self.expect("reboot: Power down", timeout)
        self.expect_end(30)


    # Guests, managed by xl in domain 0

    def wait_until(self, command, timeout):
        """Waits until the shell command in domain 0 succeeds; returns what it printed then."""
        return self.run(f"for i in $(seq {timeout}); do {command} >/run/out 2>&1 && break; sleep 1; done; cat /run/out; "
                        f"{command} >/dev/null 2>&1", timeout + 60)

    def create(self, guest, options="", timeout=120):
        """xl create; options are settings like vcpus=4 or 'name="other"'. The guest's console log starts anew."""
        self.run("rm -f /var/log/xen/console/guest-*.log", check=False)
        return self.run(f"xl create /etc/xen/{guest}.cfg {options}", timeout)

    def guest_says(self, guest, pattern, timeout=120):
        """Waits for a line in the guest's console log, which xenconsoled writes; pattern is grep's."""
        log = f"/var/log/xen/console/guest-{guest}.log"
        try:
            self.wait_until(f"grep -aE {shlex.quote(pattern)} {log}", timeout)
        except Trouble:
            raise Trouble(f"{self.name}: {guest} did not say {pattern!r}. Its console:\n"
                          + self.run(f"xl list; tail -n 30 {log}", check=False)) from None

    def destroyed(self, guest, timeout=60):
        """Waits until the guest is gone, and all of its memory is free: until then xl list has it without a name."""
        self.wait_until(f"{{ ! xl domid {guest} && ! xl list | grep -F '(null)'; }}", timeout)

    @contextlib.contextmanager
    def guest_console(self, guest, command=None):
        """The guest's console, by xl console or the command; gives a Guest. Left by Ctrl-], or by the guest's end."""
        self.send((command or f"xl console {guest}") + "; echo '<console' 'left>'\n")
        try:
            yield Guest(self)
        finally:
            self._leave_console(guest)

    def _leave_console(self, guest):
        for _ in range(10):
            try:
                # The tool wants Ctrl-] alone in what it reads, and QEMU wants it twice.
                self.send("\x1d\x1d")
                self.expect("<console left>", 5)
                break
            except Trouble:
                continue
        else:
            raise Trouble(f"{self.name}: the console of {guest} could not be left")
        # If the guest had ended before, it was the shell that got the Ctrl-].
        self.send("\n\n")
        self.run("true")

    def free_pages(self):
        """Free memory of the machine to the page, as the debug key m tells it; with the pages that domain 0 keeps for the next
        mappings of grants, which are as many as it once needed at a time (key g)."""
        self.run("xl dmesg -c >/dev/null; xl debug-keys mg")
        text = self.run("xl dmesg")
        if self.on_xen:
            return int(re.search(r"Dom heap: (\d+)kB free", text).group(1)) // 4
        kept = re.search(r"d0: grant table .* in (\d+) pages", text)
        return int(re.search(r"memory: (\d+) of \d+ KiB free", text).group(1)) // 4 + int(kept.group(1))

    def expect_free_pages(self, pages, timeout=30):
        """Waits until so much is free; what it is in the end if not. Destroyed guests go in the background."""
        deadline = time.monotonic() + timeout
        while (free := self.free_pages()) != pages and time.monotonic() < deadline:
            pass
        assert free == pages, f"{self.name}: {free} pages are free, not {pages}"

    def recover(self):
        """After a failed test: out of any console, back to domain 0's shell, all guests away."""
        self.send("\x1d\x1d\x03\n")
        self.run("for d in $(xl list | awk 'NR > 2 { print $2 }'); do xl destroy $d; done", 120, check=False)

    def audit(self):
        """Croft's own check of every frame and page table: nothing is lost, nothing is wrong."""
        if not self.on_xen:
            self.croft_key("a", r"audit: 0 findings", timeout=60)


def manager(name, xenstored="oxenstored", pvh=False, **settings):
    """A Machine whose domain 0 manages guests: 1 GiB for itself, 3 for them. xenstored: the program that keeps the store,
    oxenstored (Debian's choice) or xenstored (the one in C). pvh: there are PVH ones among them. Then the CPUs take turns: with
    a thread for each QEMU 7.2 loses translations (docs/status.md, "Learned the hard way")."""
    accel = "tcg,thread=single" if pvh else "tcg"
    settings = {"limit": 1200, "memory": 4096, "accel": accel, "kernel_args": "quiet", **settings}
    return Manager(name, xenstored, croft_args="dom0_mem=1G,max:1G", **settings)


class Manager(Machine):
    def __init__(self, name, xenstored, **settings):
        super().__init__(name, daemons=xenstored == "oxenstored", **settings)
        self.xenstored = xenstored

    def login(self, timeout=300):
        super().login(timeout)
        if self.xenstored != "oxenstored":
            # The unit was skipped: its script is started itself, which by default asks systemd for the unit again.
            self.run(f"echo XENSTORED=/usr/lib/xen-4.17/bin/{self.xenstored} >>/etc/default/xen; "
                     "SYSTEMCTL_SKIP_REDIRECT=1 /etc/init.d/xen start")
        self.run(f"pgrep -x {self.xenstored}")


class Guest:
    """A guest's console with a shell on it."""

    def __init__(self, machine):
        self.machine = machine
        self.expect = machine.expect
        self.send = machine.send
        self.quiet = False

    def login(self, prompt=r"debian login: ", timeout=180):
        """Waits for the login of the Debian guest (or the tiny one's prompt), logs in; afterwards run() works."""
        end = time.monotonic() + timeout
        while True:
            self.send("\n")
            try:
                self.expect(prompt, 5)
                break
            except Trouble:
                if time.monotonic() > end:
                    raise
        if "login" in prompt:
            self.send("root\n")
            self.expect(r"root@debian:~# ", 90)
        self.send("stty -echo; PS1=; dmesg -n 1\n")
        self.run("true")

    def run(self, command, timeout=60, check=True):
        """As Machine.run."""
        if not self.quiet:
            # What the guest said before is out of the way, and so is a Ctrl-] that reached its shell.
            self.send("\n\n")
            self.machine.run("true")
            self.quiet = True
        return self.machine.run(command, timeout, check)


class FileServer:
    """An HTTP server on loopback that gives 'size' bytes, the same each time; domain 0 reaches it as 10.0.2.2."""

    def __init__(self, size):
        data = random.Random(size).randbytes(size)
        self.md5 = hashlib.md5(data).hexdigest()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, data))
        self.url = f"http://10.0.2.2:{self.server.server_port}/file"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, data, *args):
        self.data = data
        super().__init__(*args)

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.data)))
        self.end_headers()
        self.wfile.write(self.data)

    def log_message(self, *_):
        pass
