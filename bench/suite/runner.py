"""Starts an environment of the benchmark suite under QEMU and reads what its rows say."""
import os
import re
import subprocess
import sys
import time

import environments

ROW = re.compile(r"^(?:micro|macro) (\w+) (failed|-?\d+\.\d+)\r*$", re.M)
ENDED = re.compile(r"bench: (?:host )?end\r*\n|Kernel panic|the machine is halted")
# Rows of bench/suite/macro, the longest last
MACRO = ("perf_pipe,hackbench,stress_switch,stress_fault,pgbench_select,nginx,nginx_keepalive,pgbench,sqlite_wal,sqlite_memory,xz,"
         "stress_fork,gcc,build")
LOGS = os.path.join(environments.BUILD, "logs", "bench")


def read(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def run(environment, clock, micro, macro, limit, root=None, plugin=(), label="suite"):
    """Starts the environment, has the rows measured in it; returns {row: nanoseconds}, with None for a row that failed, and
    whether all came to its end. The console's log has the label in its name."""
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
    finally:
        process.kill()
        process.wait()
    text = read(log) if os.path.exists(log) else ""
    found = {name: None if value == "failed" else float(value) for name, value in ROW.findall(text)}
    ended = "bench: end" in text
    if not ended:
        print(f"suite: {environment.name} ({clock}) did not come to its end (limit: {limit} s); log: {log}", file=sys.stderr)
    for name in [name for name, value in found.items() if value is None]:
        print(f"suite: {environment.name} ({clock}): {name} failed; log: {log}", file=sys.stderr)
    return found, ended
