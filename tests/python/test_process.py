"""Signals, forks and ends of processes, each in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from conftest import Example
from reading import PATIENCE

START = """
import os, signal, sys, threading, time
import numpy as np
import damacy
uri = sys.argv[1]
config = damacy.Config(samples_per_batch=4, sample_shape=(4, 16, 16), dtype="f32")
def samples(count):
    return (damacy.Sample(uri, [(z % 8, z % 8 + 4), (0, 16), (0, 16)], tag=z) for z in range(count))
pipeline = damacy.Pipeline(config)
"""


def check(run_python, example: Example, source: str, code: int = 0) -> str:
    done = run_python(START + source, example.uri)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


SLOW = """
def slow():
    while True:
        time.sleep(0.01)
        yield next(samples(1))
pipeline.push(slow())
"""


@pytest.mark.parametrize(
    ("prepare", "wait", "resume"),
    [
        ("", "pipeline.pop()", "pipeline.push(samples(4))"),
        ("", f"pipeline.pop(timeout={PATIENCE})", "pipeline.push(samples(4))"),
        ("pipeline.push(samples(3))", "pipeline.pop()", "pipeline.push(samples(1))"),
        (SLOW, "[batch.release() for batch in pipeline.batches()]", ""),
    ],
)
def test_ctrl_c_interrupts_waiting(example: Example, prepare: str, wait: str, resume: str) -> None:
    # Python catches Ctrl-C only where it is not ignored already, as it is in jobs that a script puts into the background.
    source = f"""import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
{START}{prepare}
try:
    print('waiting', flush=True)
    {wait}
except KeyboardInterrupt:
    print('interrupted', flush=True)
pipeline.push(samples(4))
{resume}
pipeline.pop(timeout={PATIENCE}).release()
print('goes on')
"""
    with subprocess.Popen([sys.executable, "-c", source, example.uri], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "waiting\n"
        time.sleep(0.2)  # it waits by now; if not, it is interrupted a little before
        process.send_signal(signal.SIGINT)
        try:
            output, _ = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert output == "interrupted\ngoes on\n" and process.returncode == 0


def test_a_forked_child_gets_errors_not_deadlocks(example: Example, run_python) -> None:
    output = check(
        run_python,
        example,
        """
pipeline.push(samples(10**9))
batch = pipeline.pop()
tensor, values, view = batch[""], np.from_dlpack(batch), memoryview(batch)
expected = values.copy()
stop = threading.Event()
thread = threading.Thread(target=lambda: [b.release() for b in iter(lambda: None if stop.is_set() else pipeline.pop(), None)])
thread.start()
for round in range(20):
    child = os.fork()
    if child == 0:
        signal.alarm(200)
        def forked(call):
            try:
                call()
            except damacy.Forked:
                return True
            return False
        calls = [pipeline.pop, pipeline.flush, pipeline.stats, pipeline.batches, lambda: pipeline.push(samples(1)),
                 lambda: batch.info, lambda: np.from_dlpack(tensor)]
        good = all([forked(call) for call in calls]) and (values == expected).all()
        batch.release()
        pipeline.close()
        del batch, tensor, values, view, pipeline
        with damacy.Pipeline(config) as own:
            own.push(samples(8))
            good = good and len(list(own.batches())) == 2
        sys.exit(0 if good else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, round
stop.set()
thread.join()
print("parent goes on", pipeline.pop() is not None, bool((values == expected).all()))
""",
    )
    assert output == "parent goes on True True\n"


def test_multiprocessing_workers_make_their_own(example: Example, run_python) -> None:
    source = """
import multiprocessing
def work(tag):
    with damacy.Pipeline(config) as own:
        own.push(damacy.Sample(uri, [(0, 4), (0, 16), (0, 16)], tag=tag + i) for i in range(4))
        return own.pop().info.tags
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(work, [10, 20]))
"""
    assert check(run_python, example, source) == "[(10, 11, 12, 13), (20, 21, 22, 23)]\n"


@pytest.mark.parametrize(
    "end",
    [
        "",
        "sys.exit(0)",
        "os._exit(0)",
        "del pipeline",
        "held = np.from_dlpack(pipeline.pop())",
        "batches = pipeline.batches(); batch = next(batches)",
        "threading.Thread(target=pipeline.pop, daemon=True).start(); pipeline.push(samples(10**9)); time.sleep(0.05)",
        "threading.Thread(target=lambda: [b.release() for b in pipeline.batches(2000)]).start()",
    ],
)
def test_exits_from_any_state(example: Example, run_python, end: str) -> None:
    check(run_python, example, "pipeline.push(samples(10**9))\npipeline.pop()\n" + end)


def test_objects_that_outlive_their_module(example: Example, run_python) -> None:
    check(
        run_python,
        example,
        """
class Late:
    def __init__(self, *things):
        self.things = things
    def __del__(self):
        self.things[0].sum()
pipeline.push(samples(10**9))
batch = pipeline.pop()
sys.late = Late(np.from_dlpack(batch), batch, pipeline, pipeline.batches())
""",
    )


def test_killed_while_streaming(example: Example) -> None:
    """Nothing is left behind, and the next process works: there is no state outside of the process."""
    source = START + "pipeline.push(samples(10**9))\nprint('streaming', flush=True)\nfor batch in pipeline.batches():\n    batch.release()\n"
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", source, example.uri], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdout.readline() == "streaming\n"
            time.sleep(0.05)
            process.kill()
            assert process.wait(timeout=PATIENCE) == -signal.SIGKILL


def test_signals_go_to_handlers_in_the_main_thread(example: Example, run_python) -> None:
    source = """
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(threading.current_thread() is threading.main_thread()))
pipeline.push(samples(10**9))
for i, batch in enumerate(pipeline.batches(50)):
    batch.release()
    if i % 10 == 0:
        os.kill(os.getpid(), signal.SIGUSR1)
print(seen == [True] * 5)
"""
    assert check(run_python, example, source) == "True\n"


def test_a_handler_that_closes(example: Example, run_python) -> None:
    source = """
signal.signal(signal.SIGALRM, lambda *_: pipeline.close())
signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    pipeline.pop()
except damacy.ShutdownError:
    print("closed")
"""
    assert check(run_python, example, source) == "closed\n"


def test_few_file_descriptors(example: Example, run_python) -> None:
    """With no descriptors left, errors belong to samples, and work goes on afterwards."""
    source = """
import resource
batches = pipeline.batches()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
used = max(map(int, os.listdir("/proc/self/fd")))
resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
pipeline.push(samples(4))
try:
    next(batches)
    print("unexpected")
except damacy.DamacyError as error:
    print(error.status.name)
for fd in held:
    os.close(fd)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
pipeline.push(samples(4))
print(next(batches).info.tags)
"""
    assert check(run_python, example, source) == "IO\n(0, 1, 2, 3)\n"


def test_no_python_threads(example: Example, run_python) -> None:
    source = """
def native_threads():
    count = 0
    for task in os.listdir("/proc/self/task"):
        try:
            count += open(f"/proc/self/task/{task}/comm").read().startswith(("damacy", "dmc-"))
        except OSError:
            pass  # it has just ended
    return count
pipeline.push(samples(10**9))
for batch in pipeline.batches(10):
    batch.release()
print(threading.active_count(), native_threads() >= 2)
pipeline.close()
while native_threads():  # one that was joined may be seen for a moment yet
    time.sleep(0.01)
"""
    assert check(run_python, example, source) == "1 True\n"
