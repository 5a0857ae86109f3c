"""Show every C file to clang without compiling it: its warnings and -Wthread-safety, whatever compiler the build uses.

Argument: a compile_commands.json.
"""

import concurrent.futures
import json
import os
import pathlib
import shlex
import subprocess
import sys

# Options of gcc that clang takes, and that change what a file means.
KEPT_PREFIXES = ("-I", "-D", "-m", "-std", "-f")


def command_for(entry):
    """clang's command line for one entry of the data base."""
    words = shlex.split(entry["command"])
    kept, index = [], 0
    while index < len(words):
        if words[index] in ("-isystem", "-include"):
            kept += words[index:index + 2]
            index += 1
        elif words[index].startswith(KEPT_PREFIXES):
            kept.append(words[index])
        index += 1
    warnings = ["-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wthread-safety", "-Werror",
                "-Wno-unknown-warning-option"]
    return ["clang", "-fsyntax-only", *kept, *warnings, entry["file"]]


def check(entry):
    result = subprocess.run(command_for(entry), cwd=entry["directory"], capture_output=True, text=True)
    return result.returncode, result.stdout + result.stderr


def main():
    entries = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    unique = list({entry["file"]: entry for entry in entries if entry["file"].endswith(".c")}.values())  # kernels and their twin are C++
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("JOBS") or os.cpu_count())) as pool:
        for code, text in pool.map(check, unique):
            print(text, end="")
            failed += code != 0
    print(f"{len(unique)} files, {failed} with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
