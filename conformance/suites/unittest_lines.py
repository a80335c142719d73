"""Runs a unittest suite and says one line per test: `ok NAME`, `failed NAME: why`, `skipped NAME: why`.

usage: unittest_lines.py TOP-FOLDER START-FOLDER [NAME …]     only these tests, if any are named
A test that takes longer than SECONDS fails; the next one goes on.
"""

import os
import signal
import sys
import unittest

SECONDS = int(os.environ.get("TEST_SECONDS", "120"))


class TookTooLong(BaseException):
    pass


def ring(*_):
    raise TookTooLong(f"no end within {SECONDS} s")


class Lines(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.bad = {}

    def startTest(self, test):
        super().startTest(test)
        signal.alarm(SECONDS)

    def stopTest(self, test):
        signal.alarm(0)
        super().stopTest(test)
        say("failed" if test.id() in self.bad else "ok", test.id(), self.bad.get(test.id(), ""))

    def note(self, test, error):
        kind, value, trace = error
        line = ""
        while trace:
            if "/tests/" in trace.tb_frame.f_code.co_filename:
                line = f"line {trace.tb_lineno}: "
            trace = trace.tb_next
        self.bad.setdefault(test.id(), f"{line}{kind.__name__}: {value}")

    def addFailure(self, test, err):
        self.note(test, err)

    def addError(self, test, err):
        if isinstance(test, unittest.suite._ErrorHolder):
            say("failed", test.id(), str(err[1]))
        else:
            self.note(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.note(test, err)

    def addUnexpectedSuccess(self, test):
        self.bad[test.id()] = "succeeds though it should not"

    def addSkip(self, test, reason):
        # stopTest is called for a skipped test, too, but not for a skipped class.
        self.bad.pop(test.id(), None)
        self.skipped.append(test.id())
        say("skipped", test.id(), reason)


def say(how, name, why=""):
    if how == "ok" and name in result.skipped:
        return
    why = " | ".join(str(why).split("\n"))[:400]
    print(f"{how} {name}" + (f": {why}" if why else ""), file=out, flush=True)


def each(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from each(test)
        else:
            yield test


# What the tests themselves print must not stand among the lines.
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
signal.signal(signal.SIGALRM, ring)
top, start, *names = sys.argv[1:]
sys.path.insert(0, top)
os.chdir(top)
result = Lines()
tests = unittest.defaultTestLoader.discover(start, pattern="test_*.py", top_level_dir=top)
if names:
    tests = unittest.defaultTestLoader.suiteClass([test for test in each(tests) if test.id() in names])
tests.run(result)
