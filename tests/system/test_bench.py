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


def test_a_row_that_is_not_there_is_an_error():
    done = subprocess.run([os.path.join(BUILD, "bench/micro"), "null_call", "nothing"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == "" and "no row is named nothing" in done.stderr


def test_no_two_rows_have_one_name():
    lines = subprocess.run([os.path.join(BUILD, "bench/micro"), "-l"], capture_output=True, text=True, check=True).stdout.splitlines()
    names = [line.split()[0] for line in lines] + runner.MACRO.split(",")
    assert len(set(names)) == len(names)
    with open(os.path.join(SUITE, "macro"), encoding="utf-8") as f:
        assert set(re.findall(r"^row_(\w+)\(\)", f.read(), re.M)) == set(runner.MACRO.split(","))


def test_a_table_has_medians_and_ratios():
    def run(environment, value):
        return {"environment": environment, "clock": "real", "rows": {"pipe": value}}

    results = {"runs": [run("bare", 1000.0), run("bare", 2000.0), run("bare", 9000.0), run("croft-dom0", 3000.0),
                        run("xen-dom0", 4000.0), run("xen-dom0", None)]}
    head, row = table.cells(results, "real")
    assert head == ["row", "bare", "croft-dom0", "xen-dom0", "croft-dom0/xen-dom0"]
    assert row == ["pipe", "2 us", "1.50", "2.00", "0.75"]
