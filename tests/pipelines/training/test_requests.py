"""Signals and wishes become requests, each of them once."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from condgen.errors import Interrupted
from pipelines.training.monitor import Monitor, WorkerPlace
from pipelines.training.requests import Requests
from pipelines.training.signals import Received, interrupted_by_sigterm, signals_noted


def test_a_worker_whose_machine_ends_asks_for_a_stop_and_says_that_it_leaves() -> None:
    received = Received()
    asked = Requests(3, None, received)
    assert not asked().stop
    received.note(signal.SIGTERM)
    request = asked()
    assert request.stop
    assert request.leaving == {3}


def test_all_workers_stop_when_the_driver_wants_it_and_worker_0_alone_passes_on_that_a_checkpoint_is_wanted() -> None:
    monitor = Monitor()
    first, second = Requests(0, None, Received()), Requests(1, None, Received())
    monitor.want_save()
    for asked in (first, second):
        asked._wishes = monitor.wishes()
    assert [first().save, second().save] == [True, False]
    assert not first.wants_stop()
    monitor.want_stop(frozenset())
    second._wishes = monitor.wishes()
    assert second.wants_stop()
    assert second().stop


def test_a_checkpoint_that_a_signal_asks_for_is_asked_for_once() -> None:
    received = Received()
    asked = Requests(1, None, received)
    received.note(signal.SIGUSR2)
    assert [asked().save, asked().save] == [True, False]
    received.note(signal.SIGUSR2)
    assert asked().save


def test_the_driver_s_wishes_are_those_of_worker_0() -> None:
    monitor = Monitor()
    asked = Requests(0, None, Received())
    monitor.want_save()
    asked._wishes = monitor.wishes()
    assert [asked().save, asked().save] == [True, False]
    monitor.want_stop(frozenset({0, 2}))
    asked._wishes = monitor.wishes()
    assert asked().stop
    assert asked().leaving == {0, 2}


def test_a_monitor_tells_rows_once_and_the_rest_again_and_again() -> None:
    monitor = Monitor()
    monitor.begin(WorkerPlace(rank=1, node="n"))
    monitor.add_row("row")  # type: ignore[arg-type]
    monitor.end("steps")
    first, second = monitor.news(), monitor.news()
    assert (first.rows, second.rows) == (["row"], [])
    assert first.places == second.places == [WorkerPlace(rank=1, node="n")]
    assert second.reason == "steps"


def test_the_driver_notes_signals_in_its_block_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signals_noted() as received:
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGTERM)
        assert received.stop.wait(5)
        assert received.take_save()
        assert not received.take_save()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("handler", ["ours", "Ray's"])
def test_sigterm_while_nothing_trains_is_an_interruption_that_no_handler_of_errors_takes(handler: str) -> None:
    def ends() -> None:
        with interrupted_by_sigterm():
            if handler == "Ray's":
                signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
            with contextlib.suppress(Exception):  # Interrupted is one
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        ends()
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(SystemExit, match="3"), interrupted_by_sigterm():
        sys.exit(3)


def test_a_worker_notes_a_signal_while_its_main_thread_runs_no_python() -> None:
    """As in a worker of Ray, whose main thread is in C++ until a task comes."""
    code = (
        "import ctypes, threading, os\n"
        "from pipelines.training.signals import received_here, watch_signals\n"
        "watch_signals(); watch_signals()\n"
        "def say():\n"
        "    received_here().stop.wait(60); print('noted', flush=True); os._exit(0)\n"
        "thread = threading.Thread(target=say); thread.start()\n"
        "print('ready', flush=True)\n"
        "ctypes.CDLL(None).pthread_join(ctypes.c_ulong(thread.ident), None)\n"  # no signal interrupts it
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "noted\n"
    assert time.monotonic() - began < 20
    assert process.wait(10) == 0
