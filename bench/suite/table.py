"""The results of bench/suite/suite as tables: medians, spread, ratios to the bare machine and to Xen."""
import statistics

# A row of Croft's is compared to the same of Xen's
PEERS = {"croft-dom0": "xen-dom0", "croft-pv": "xen-pv", "croft-pvh": "xen-pvh"}
# These have rows of their own, of what a guest shares with domain 0
SHARING = ("croft-pair", "xen-pair")
UNITS = (("s", 1e9), ("ms", 1e6), ("us", 1e3))


def figures(results, clock):
    """{row: {environment: (median, spread)}}, rows in the order of measuring; spread: of all runs, relative to the median."""
    values = {}
    for run in results["runs"]:
        if run["clock"] == clock:
            for row, value in run["rows"].items():
                values.setdefault(row, {}).setdefault(run["environment"], []).append(value)
    return {row: {e: (statistics.median(v), (max(v) - min(v)) / max(statistics.median(v), 1)) for e, v in of_row.items()}
            for row, of_row in values.items()}


def environments(results):
    return list(dict.fromkeys(run["environment"] for run in results["runs"]))


def difference(results):
    """The largest difference between runs of a row in instructions, relative to its median, and which row of where"""
    spreads = [(spread, f"{row}, {e}") for row, of_row in figures(results, "icount").items() for e, (_, spread) in of_row.items()]
    return max(spreads, default=(0, "no row"))


def ratio(of_row, one, other):
    if one not in of_row or other not in of_row or of_row[other][0] <= 0:
        return None
    return of_row[one][0] / of_row[other][0]


def shown(value):
    return "-" if value is None else f"{value:.2f}"


def duration(ns):
    for unit, size in UNITS:
        if abs(ns) >= size:
            return f"{ns / size:.3g} {unit}" if ns / size < 100 else f"{ns / size:.0f} {unit}"
    return f"{ns:.0f} ns"


def cells(results, clock):
    """Lines of cells, the first one the headings: the row, bare's figure, each environment's ratio to bare, and to Xen's."""
    names = [n for n in environments(results) if n not in SHARING]
    others = [n for n in names if n != "bare"]
    pairs = [(a, b) for a, b in PEERS.items() if a in names and b in names]
    lines = [["row", "bare", *others, *(f"{a}/{b}" for a, b in pairs)]]
    for row, of_row in figures(results, clock).items():
        if not set(of_row) & set(names):
            continue
        bare = duration(of_row["bare"][0]) if "bare" in of_row else "-"
        if "bare" in names:
            line = [shown(ratio(of_row, n, "bare")) for n in others]
        else:
            line = [duration(of_row[n][0]) if n in of_row else "-" for n in others]
        lines.append([row, bare, *line, *(shown(ratio(of_row, a, b)) for a, b in pairs)])
    return lines


def sharing_cells(results, clock):
    """The same of the rows between a guest and domain 0: Croft's figure, Xen's, and their ratio"""
    lines = [["row", "Croft", "Xen", "Croft/Xen"]]
    for row, of_row in figures(results, clock).items():
        if set(of_row) & set(SHARING):
            lines.append([row, *(duration(of_row[n][0]) if n in of_row else "-" for n in SHARING), shown(ratio(of_row, *SHARING))])
    return lines


def tables(results):
    """(clock, title, lines) of the tables that have lines"""
    found = []
    for clock, title in CLOCK_TITLES.items():
        found += [(clock, title, cells(results, clock)), (clock, SHARING_TITLES[clock], sharing_cells(results, clock))]
    return [t for t in found if len(t[2]) > 1]


CLOCK_TITLES = {"icount": "Instructions (2 ns each); ratios to the bare machine, and of Croft to Xen",
                "real": "Real seconds under TCG, medians; ratios to the bare machine, and of Croft to Xen"}


SHARING_TITLES = {"icount": "Between a guest and domain 0: instructions (2 ns each)", "real": "Between a guest and domain 0: real seconds under TCG"}


def not_measured(results):
    """A line for each thing that was to be measured and was not"""
    return [*results.get("left_out", ()), *(fault for run in results["runs"] for fault in run.get("faults", ()))]


def spread_line(results, clock):
    spreads = [s for of_row in figures(results, clock).values() for _, s in of_row.values()]
    runs = max((sum(r["clock"] == clock and r["environment"] == e for r in results["runs"]) for e in environments(results)), default=0)
    if runs < 2 or not spreads:
        return ""
    return f"Spread of a row's {runs} runs ({'instructions' if clock == 'icount' else 'real seconds'}): median {statistics.median(spreads):.1%}, most {max(spreads):.1%} of its median."


def text(results):
    out = []
    for _, title, lines in tables(results):
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        out.append("\n" + title)
        out += ["  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))) for line in lines]
    out += filter(None, ["", *(spread_line(results, clock) for clock in CLOCK_TITLES)])
    missing = not_measured(results)
    if missing:
        out += ["", "Not measured:", *missing]
    return "\n".join(out)
