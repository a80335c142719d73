"""Reads the reports that Surefire leaves and says one line per test: `ok NAME`, `failed NAME: why`, `skipped NAME`.

usage: junit_lines.py FOLDER-OF-REPORTS
A test that ran more than once under one name has passed when it passed each time.
"""

import pathlib
import sys
import xml.etree.ElementTree

RANK = {"skipped": 0, "ok": 1, "failed": 2}
found = {}
for path in sorted(pathlib.Path(sys.argv[1]).glob("TEST-*.xml")):
    try:
        root = xml.etree.ElementTree.parse(path).getroot()
    except xml.etree.ElementTree.ParseError:
        # The run was killed while this one was written.
        continue
    for case in root.iter("testcase"):
        how, why = "ok", ""
        for child in case:
            if child.tag == "skipped":
                how = "skipped"
            if child.tag in ("failure", "error"):
                how, why = "failed", child.get("message") or child.get("type") or ""
        # A class whose setting up failed is a case without a name. A colon and a space end a name.
        name = " ".join(f"{case.get('classname')}.{case.get('name') or 'class'}".replace(": ", " ").split())
        if name not in found or RANK[how] > RANK[found[name][0]]:
            found[name] = (how, " | ".join(why.split("\n"))[:400])
for name, (how, why) in found.items():
    print(f"{how} {name}" + (f": {why}" if why else ""))
