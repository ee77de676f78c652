"""A table of licences from an SBOM in CycloneDX's JSON: ``python .ci/supply.py SBOM TABLE``."""

import json
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

_CLASSIFIER = "License :: OSI Approved :: "


def licences(component: Mapping[str, Any]) -> str:
    """What a package says of its licence, in SPDX's words or its own."""
    found = []
    for one in component.get("licenses") or []:
        licence = one.get("license") or {}
        name = one.get("expression") or licence.get("id") or licence.get("name") or ""
        name = name.removeprefix(_CLASSIFIER).strip().splitlines()[0][:80] if name.strip() else ""
        if name and name not in found:
            found.append(name)
    return ", ".join(found) or "not stated in its metadata"


def table(sbom: Mapping[str, Any]) -> str:
    """One row for each package."""
    rows = [
        f"| {one['name']} | {one.get('version', '')} | {licences(one)} |"
        for one in sorted(sbom["components"], key=lambda one: one["name"].lower())
    ]
    head = [
        "# Licences",
        "",
        f"Of the {len(rows)} packages that the tests ran with, as their metadata state them."
        f" Written by `make sbom` on {date.today().isoformat()}.",
        "",
        "| package | version | licence |",
        "| --- | --- | --- |",
    ]
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3])
    target.write_text(table(json.loads(source.read_text(encoding="utf-8"))), encoding="utf-8")
