"""Stops Python at stated moments, where tests of interrupted runs put this folder on its path.

FAULTS is a JSON list of [event of Python's audit, pattern of the path, what happens]: `job` kills
the process itself, `run` all processes of the run, `stop` suspends the process, and `raise` raises
an error that no program expects. Each happens once; a file in the folder FAULTS_MET, named by the
fault's number, then holds the process's id.
"""

import fnmatch
import json
import os
import signal
import sys
from pathlib import Path

FAULTS = json.loads(os.environ.get("FAULTS", "[]"))


def path_of(event, arguments):
    """The name that a file gets, or of the file that is opened to be written anew."""
    if event == "os.rename":
        return str(arguments[1])
    if event == "open" and arguments[1] == "w":
        return str(arguments[0])
    return ""


def meet(event, arguments):
    """Do what is to happen at this event, if it has not happened yet."""
    path = path_of(event, arguments)
    for number, (awaited, pattern, what) in enumerate(FAULTS if path else []):
        if event == awaited and fnmatch.fnmatch(path, pattern) and first_time(str(number)):
            if what == "raise":
                raise RuntimeError("raised by a test")
            if what == "run":
                os.killpg(0, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL if what == "job" else signal.SIGSTOP)


def first_time(number):
    """Whether nobody has met this fault; the process's id is there as soon as the file is."""
    beside = Path(os.environ["FAULTS_MET"], f"{os.getpid()}-{number}")
    beside.write_text(str(os.getpid()), encoding="utf-8")
    try:
        beside.with_name(number).hardlink_to(beside)
    except FileExistsError:
        return False
    finally:
        beside.unlink()
    return True


if FAULTS:
    sys.addaudithook(meet)
