"""Look the locked packages up among known vulnerabilities: ``make audit``.

`pip-audit` runs in an environment of its own and asks the package index for advisories. Where the index has none, a
sentence says so, and the status is 0.
"""

import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

SECONDS = 300
NOTHING = "audit: no advisories can be reached here, so nothing was looked up."


def main() -> int:
    """Return 1 if a locked version has a known vulnerability."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [str(Path(sysconfig.get_path("scripts"), "uvx")), "--quiet", "pip-audit", "--progress-spinner", "off"]
        command += ["--requirement", "requirements.txt", "--require-hashes", "--disable-pip"]
        command += ["--format", "json", "--output", str(report)]
        try:
            subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
            packages = json.loads(report.read_bytes())["dependencies"]
        except (OSError, ValueError, subprocess.TimeoutExpired):
            print(NOTHING)
            return 0
    return told(packages)


def told(packages: list[dict]) -> int:
    """Print what pip-audit found of each package; returns 1 if a version has a known vulnerability."""
    known = [package for package in packages if "vulns" in package]  # others have a reason why they were skipped
    if not known:
        print(NOTHING)
        return 0
    found = [(package, fault) for package in known for fault in package["vulns"]]
    for package, fault in found:
        fixed = ", ".join(fault["fix_versions"]) or "no version yet"
        print(f"audit: {package['name']} {package['version']} has {fault['id']}, fixed in {fixed}.")
    print(f"audit: {len(known)} of {len(packages)} packages were looked up; {len(found)} known vulnerabilities.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
