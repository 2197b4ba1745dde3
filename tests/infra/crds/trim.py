#!/usr/bin/env python3
"""Write the schemas of custom resource definitions as the tests read them: one version, no descriptions, gzipped JSON.

    trim.py OUT_FOLDER CRD.yaml ...      # CRD.yaml as it stands in the operator's repository

README.md beside this file says where the definitions come from. The same definition gives the same bytes.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import yaml


def without_descriptions(schema: Any) -> Any:
    """Return a schema without its texts; a property that is called `description` stays."""
    if isinstance(schema, list):
        return [without_descriptions(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: value for name, value in schema.items() if not (name == "description" and isinstance(value, str))}
    return {
        name: (
            {key: without_descriptions(one) for key, one in value.items()}
            if name == "properties"
            else without_descriptions(value)
        )
        for name, value in kept.items()
    }


def main() -> None:
    """Read the definitions that the arguments name, and write their newest served versions."""
    folder = Path(sys.argv[1])
    for path in map(Path, sys.argv[2:]):
        definition = next(one for one in yaml.load_all(path.read_text(), yaml.CSafeLoader) if one)["spec"]
        version = next(one for one in definition["versions"] if one["storage"])
        content = {
            "group": definition["group"],
            "kind": definition["names"]["kind"],
            "version": version["name"],
            "schema": without_descriptions(version["schema"]["openAPIV3Schema"]),
        }
        text = json.dumps(content, separators=(",", ":"), sort_keys=True)
        (folder / f"{content['kind'].lower()}.json.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
