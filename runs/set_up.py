"""Set up `.venv` for `make`: needs python3 and nothing else, and does nothing when everything is as
it was at the last set-up.

    python3 runs/set_up.py PYTHON UV        for example: python3.13 uv==0.13.9

One at a time: a second one waits. An environment that is unfinished, of another folder (a copy) or
of a Python that is
too old is made anew. Written for any Python 3, so that an old one can say that it is too old.
"""

import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
DONE = os.path.join(VENV, ".setup.done")
LEAST = (3, 11)


def wanted():
    """What an environment is made from: lock, settings, set-up scripts, and the folder that it is
    in.
    """
    digest = hashlib.sha256(ROOT.encode("utf-8", "surrogateescape"))
    for name in (
        "requirements.lock",
        "settings.ini",
        "setup.py",
        os.path.join("runs", "set_up.py"),
    ):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def is_done():
    """Was the last set-up finished, and for the files and the folder of now?"""
    if not os.path.exists(DONE) or not os.access(PYTHON, os.X_OK):
        return False
    with open(DONE) as file:
        return file.read().strip() == wanted()


def version_of(python):
    """(major, minor) of a Python program, None when it does not run."""
    try:
        text = subprocess.check_output(
            [python, "-c", "import sys; print(*sys.version_info[:2])"], stderr=subprocess.DEVNULL
        )
        return tuple(int(part) for part in text.split())
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None


def need_version(python):
    """End with one line when the Python that was asked for cannot be used."""
    version, least = version_of(python), ".".join(map(str, LEAST))
    if version is None or version < LEAST:
        what = "does not run" if version is None else "is Python " + ".".join(map(str, version))
        sys.exit(
            f"error: {python} {what}; hiermovie needs {least} or later: make setup "
            f"PYTHON=python{least}"
        )


def is_usable():
    """Can the environment that is there be gone on with? Its own Python runs, is new enough, and
    knows this folder.
    """
    version = version_of(PYTHON)
    if version is None or version < LEAST:
        return False
    prefix = subprocess.check_output(
        [PYTHON, "-c", "import sys; print(sys.prefix)"], universal_newlines=True
    ).strip()
    programs = os.path.join(VENV, "bin", "pip")
    with open(programs, "rb") as file:
        first = file.read(400)
    return (
        os.path.realpath(prefix) == os.path.realpath(VENV)
        and VENV.encode("utf-8", "surrogateescape") in first
    )


def set_up(python, uv):
    """Make the environment, or go on with it."""
    print("setting up .venv (about a minute)", flush=True)
    if not (os.path.exists(os.path.join(VENV, "bin", "pip")) and is_usable()):
        shutil.rmtree(VENV, ignore_errors=True)
        subprocess.check_call([python, "-m", "venv", VENV])
    program = os.path.join(VENV, "bin", "uv")
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", uv]
    sync = [
        program,
        "pip",
        "sync",
        "--quiet",
        "--python",
        PYTHON,
        "--require-hashes",
        "--compile-bytecode",
        "requirements.lock",
    ]
    package = [
        program,
        "pip",
        "install",
        "--quiet",
        "--python",
        PYTHON,
        "--no-deps",
        "--no-build-isolation",
        "-e",
        ".",
    ]
    for command in (pip, sync, package):
        subprocess.check_call(command, cwd=ROOT)
    with open(DONE + ".new", "w") as file:
        file.write(wanted())
    os.rename(DONE + ".new", DONE)


def main():
    """Hold the lock, look again, set up."""
    import fcntl

    python, uv = sys.argv[1:]
    if is_done():
        return
    need_version(python)
    with open(os.path.join(ROOT, ".setup.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_done():
            try:
                set_up(python, uv)
            except subprocess.CalledProcessError as error:
                sys.exit(
                    "error: the set-up stopped at `{}`; the same command goes on from there".format(
                        " ".join(map(str, error.cmd))
                    )
                )


if __name__ == "__main__":
    main()
