"""What SIGTERM and Ctrl-C do to a command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tiebreak.stopping import Stopper, arriving, stoppable


def test_a_stop_is_kept_in_mind_and_a_second_ctrl_c_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Stopper() as stopper:
        assert not stopper.asked
        signal.raise_signal(signal.SIGTERM)
        assert stopper.asked
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_signal_that_is_not_listed_does_what_it_did() -> None:
    with stoppable(), Stopper((signal.SIGINT,)) as stopper:
        signal.raise_signal(signal.SIGINT)
        assert stopper.asked
        with pytest.raises(SystemExit, match="143"):
            signal.raise_signal(signal.SIGTERM)


def test_outside_the_main_thread_nothing_is_listened_to() -> None:
    before = signal.getsignal(signal.SIGINT)

    def work() -> None:
        with Stopper():
            found.append(signal.getsignal(signal.SIGINT))

    found: list[object] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


def test_lines_come_as_they_are_said_to_the_last() -> None:
    said = "import time; print('one', flush=True); input(); print('two'); print('three', end='')"
    with subprocess.Popen(
        [sys.executable, "-c", said], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        lines = arriving(child.stdout)
        assert next(lines) == "one\n"
        child.stdin.write("go on\n")
        child.stdin.flush()
        assert list(lines) == ["two\n", "three"]


def test_whoever_waits_for_a_line_hears_of_ctrl_c() -> None:
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as stream, open(writing, "w", encoding="utf-8"):
        threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            list(arriving(stream))
        assert time.monotonic() - began < 30
