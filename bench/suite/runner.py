"""Starts an environment of the benchmark suite under QEMU and reads what its rows say."""
import datetime
import json
import os
import re
import subprocess
import time

import environments

ROW = re.compile(r"^(?:micro|macro) (\w+) (failed|-?\d+\.\d+)\r*$", re.M)
FAILED = re.compile(r"^bench: failed: (.*?)\r*$", re.M)
ENDED = re.compile(r"bench: (?:host )?end\r*\n|Kernel panic|the machine is halted")
# Rows of bench/suite/macro, the longest last
MACRO = ("perf_pipe,hackbench,stress_switch,stress_fault,pgbench_select,nginx,nginx_keepalive,pgbench,sqlite_wal,sqlite_memory,xz,"
         "stress_fork,gcc,build")
# ... and of bench/work, for bench/pvh
WORK = "loop,fork,call"
LOGS = os.path.join(environments.BUILD, "logs", "bench")


def read(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def write(path, results):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(results, f, indent=1)
        f.write("\n")


def about():
    """What the figures depend on, as far as this host can tell."""
    def line(*command):
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=environments.ROOT)
        return done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout else ""

    processor = re.search(r"^model name\s*: (.*)", read("/proc/cpuinfo"), re.M)
    return {"date": datetime.date.today().isoformat(), "croft": line("git", "describe", "--always", "--dirty"),
            "qemu": line(os.environ.get("QEMU", "qemu-system-x86_64"), "--version"),
            "host": f"{os.cpu_count()} CPUs, {processor.group(1) if processor else 'unknown'}",
            "load": round(os.getloadavg()[2], 1),
            "machine": f"q35, -cpu max,smap=off, one CPU, {environments.MACHINE_MIB} MiB, {environments.LINUX_MIB} MiB measured"}


def run(environment, clock, micro, macro, limit, root=None, plugin=(), label="suite"):
    """Starts the environment, has the rows measured in it; returns {row: nanoseconds} of those that it measured, and what went
    wrong, a line each. The console's log has the label in its name."""
    words = [f"bench.{kind}={rows}" for kind, rows in (("micro", micro), ("macro", macro)) if rows]
    log = os.path.join(LOGS, f"{label}-{environment.name}-{clock}.log")
    # Whatever ends this program ends the emulator.
    command = ["setpriv", "--pdeathsig", "KILL", os.environ.get("QEMU", "qemu-system-x86_64"), "-accel", "tcg", "-machine", "q35", "-cpu",
               "max,smap=off", "-smp", "1", "-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot", "-serial",
               "file:" + log, *plugin, *environment.command(clock, words, root)]
    if os.path.exists(log):
        os.remove(log)
    os.makedirs(LOGS, exist_ok=True)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    end = time.monotonic() + limit
    try:
        while process.poll() is None and time.monotonic() < end and not (os.path.exists(log) and ENDED.search(read(log))):
            time.sleep(0.2)
        late = process.poll() is None and time.monotonic() >= end
    finally:
        process.kill()
        process.wait()
    text = read(log) if os.path.exists(log) else ""
    rows, faults = {}, []
    for name, value in ROW.findall(text):
        if value == "failed":
            faults.append(f"{name} failed")
        else:
            rows[name] = float(value)
    faults += FAILED.findall(text)
    if "bench: end" not in text:
        last = f"after {list(rows)[-1]}" if rows else "before the first row"
        faults.append(f"stopped {last} {f'at the limit of {limit} s' if late else 'by itself'}")
    return rows, [f"{environment.name} ({clock}): {fault}; log: {os.path.relpath(log, environments.ROOT)}" for fault in faults]
