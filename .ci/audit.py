"""Look the locked packages up among known vulnerabilities: ``make audit``.

`pip-audit` runs in an environment of its own. It asks PyPI for advisories; an index without them ends with a sentence.
"""

import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

SECONDS = 300


def main() -> int:
    """Return 1 if a locked version has a known vulnerability."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [str(Path(sysconfig.get_path("scripts"), "uvx")), "--quiet", "pip-audit", "--progress-spinner", "off"]
        command += ["--requirement", "requirements.txt", "--require-hashes", "--disable-pip"]
        command += ["--format", "json", "--output", str(report)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
            packages = json.loads(report.read_text())["dependencies"]
        except (OSError, ValueError, subprocess.TimeoutExpired):
            why = done.stderr.strip().splitlines()[-1:] if "done" in locals() else []
            print("audit: no advisories can be reached here, so nothing was looked up.", *why)
            return 0
    found = [(each["name"], each["version"], fault) for each in packages for fault in each.get("vulns", ())]
    for name, version, fault in found:
        fixed = ", ".join(fault["fix_versions"]) or "none yet"
        print(f"audit: {name} {version} has {fault['id']}, fixed in: {fixed}.")
    print(f"audit: {len(packages)} packages were looked up, {len(found)} known vulnerabilities.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
