"""The harness of the benchmark suite: one row, one environment; and what it makes of figures."""
import json
import os
import re
import subprocess
import sys

from machine import BUILD, ROOT

SUITE = os.path.join(ROOT, "bench/suite")
sys.path.insert(0, SUITE)
import runner  # noqa: E402
import table  # noqa: E402


def test_a_row_is_measured_in_domain_0(tmp_path):
    out = tmp_path / "smoke.json"
    done = subprocess.run([os.path.join(SUITE, "suite"), "-e", "croft-dom0", "-c", "icount", "-m", "null_call", "-M", "none", "-l", "120",
                           "-r", os.path.join(BUILD, "bench/small.cpio"), "-o", out], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    run, = json.loads(out.read_text())["runs"]
    assert list(run["rows"]) == ["null_call"] and 200 < run["rows"]["null_call"] < 5000
    assert "null_call" in done.stdout


# In QEMU's place: says some rows and a failure on the serial line, and then nothing any more.
STUCK = """#!/bin/sh
for word; do
    case $word in
    --version) echo stuck && exit ;;
    file:*) printf 'micro pipe 20.0\\r\\nmicro mmap failed\\r\\nmicro tcp 7.5\\r\\nbench: failed: no floppy\\r\\n' >"${word#file:}" ;;
    esac
done
exec sleep 60
"""


def test_what_is_stopped_at_its_limit_keeps_its_rows_and_what_cannot_start_is_told(tmp_path):
    (tmp_path / "qemu").write_text(STUCK)
    (tmp_path / "qemu").chmod(0o755)
    out = tmp_path / "stuck.json"
    done = subprocess.run([os.path.join(SUITE, "suite"), "-e", "bare,xen-dom0", "-c", "icount", "-m", "pipe,mmap,tcp,udp", "-M", "none",
                           "-l", "2", "-r", os.path.join(BUILD, "bench/small.cpio"), "-o", out], capture_output=True, text=True, check=False,
                          env={**os.environ, "QEMU": str(tmp_path / "qemu"), "XEN": str(tmp_path / "nothing")})
    assert done.returncode == 1
    results = json.loads(out.read_text())
    run, = results["runs"]
    assert run["rows"] == {"pipe": 20.0, "tcp": 7.5}
    for line in ("bare (icount): mmap failed", "bare (icount): no floppy", "bare (icount): stopped after tcp at the limit of 2 s", "xen-dom0: not there"):
        assert line in done.stdout and line in done.stderr


def test_the_documents_have_the_figures_that_were_measured():
    done = subprocess.run([os.path.join(SUITE, "report"), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_row_that_is_not_there_is_an_error():
    done = subprocess.run([os.path.join(BUILD, "bench/micro"), "null_call", "nothing"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == "" and "no row is named nothing" in done.stderr


def test_no_two_rows_have_one_name():
    lines = subprocess.run([os.path.join(BUILD, "bench/micro"), "-l"], capture_output=True, text=True, check=True).stdout.splitlines()
    macro = [*runner.MACRO.split(","), *runner.WORK.split(",")]
    names = [line.split()[0] for line in lines] + macro
    assert len(set(names)) == len(names)
    with open(os.path.join(SUITE, "macro"), encoding="utf-8") as f:
        assert set(re.findall(r"^row_(\w+)\(\)", f.read(), re.M)) == set(macro)


def test_a_table_has_medians_and_ratios():
    def run(environment, value):
        return {"environment": environment, "clock": "real", "rows": {"pipe": value}}

    results = {"runs": [run("bare", 1000.0), run("bare", 2000.0), run("bare", 9000.0), run("croft-dom0", 3000.0),
                        run("xen-dom0", 4000.0), {"environment": "xen-pv", "clock": "real", "rows": {}}]}
    head, row = table.cells(results, "real")
    assert head == ["row", "bare", "croft-dom0", "xen-dom0", "xen-pv", "croft-dom0/xen-dom0"]
    assert row == ["pipe", "2 us", "1.50", "2.00", "-", "0.75"]


def test_two_runs_in_instructions_are_compared():
    runs = [{"environment": "bare", "clock": "icount", "rows": {"pipe": pipe, "tcp": tcp}} for pipe, tcp in ((100.0, 200.0), (100.0, 201.0))]
    most, where = table.difference({"runs": runs})
    assert where == "tcp, bare" and abs(most - 1 / 200.5) < 1e-9
