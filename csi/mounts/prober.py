"""The program of a prober (see ``probe.py``): a path a line on stdin, an answer a line on stdout.

It is run as a file, without this package, by ``python -I -S``: it has to be small and to start quickly. Paths and
reasons travel as hexadecimal digits, since both may hold any character.
"""

import os
import sys


def main() -> None:
    for line in sys.stdin.buffer:
        try:
            found = os.statvfs(bytes.fromhex(line.decode()))
        except OSError as error:
            answer = f"error {(error.strerror or str(error)).encode().hex()}"
        else:
            blocks = f"{found.f_frsize} {found.f_blocks} {found.f_bfree} {found.f_bavail}"
            answer = f"usage {blocks} {found.f_files} {found.f_ffree}"
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
