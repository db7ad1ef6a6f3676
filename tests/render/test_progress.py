"""Progress on a terminal and in a log."""

from __future__ import annotations

import io
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from rich.console import Console

from kdspec.events import (
    CacheState,
    CheckpointSaved,
    Evaluated,
    Note,
    RunFailed,
    RunFinished,
    RunStarted,
    StageFinished,
    StageSkipped,
    StageStarted,
    StepDone,
)
from kdspec.registry.plugins import Plugin, Plugins
from kdspec.render.progress import Progress, duration, number, sparkline

STARTED = RunStarted("tiny", ("tune", "distil"), {}, 0, None)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def step(number, loss=1.0, *, stage="distil", seconds=0.5, **terms):
    terms = terms or {"soft_labels": loss}
    return StepDone(
        stage, number, 0, loss, terms, dict.fromkeys(terms, 0.5), {"student": 0.1}, 1.0, seconds, 16, 99, (loss,)
    )


def log(*events, wait=0.0, told=(), detail="normal"):
    """What a log holds after these events, `wait` seconds apart."""
    stream, clock = io.StringIO(), Clock()
    with Progress(Console(file=stream, width=100), clock, told, detail) as progress:
        for event in events:
            clock.now += wait
            progress.kdspec_observe(event, None)
    return stream.getvalue().splitlines()


def screen(*events, width=100, seconds=5.0):
    """What the panel shows after these events."""
    clock = Clock()
    progress = Progress(Console(file=io.StringIO(), width=width), clock)
    for event in events:
        progress.kdspec_observe(event, None)
    clock.now += seconds
    console = Console(width=width)
    with console.capture() as captured:
        console.print(progress.panel())
    return captured.get()


def test_a_log_has_stages_evaluations_and_notes():
    assert log(
        STARTED,
        StageSkipped("tune", "finished already"),
        StageStarted("distil", 40, 1.0, 640, 8),
        step(9),
        Evaluated("distil", 10, "validation", "student", {"accuracy": 0.51234}, best=True),
        Note("warning", "odd"),
        StageFinished("distil", 40, 75.0, 10, {"accuracy": 0.51234}, "models/student"),
        RunFinished(80.0, {}),
    ) == [
        "loading models and data",
        "stage tune skipped: finished already",
        "stage 2/2 distil: 40 steps, 8 of them done, 1 epoch of 640 rows",
        "distil 9/40: loss 1, 32 rows/s",
        "distil 10/40: validation accuracy 0.5123, the best so far",
        "warning: odd",
        "stage distil finished in 1:15; the best was step 10: accuracy 0.5123",
        "comparing the models",
    ]


@pytest.mark.parametrize(
    ("selected_by", "listed"), [("accuracy", "accuracy 0.5"), ("topics.ece", "accuracy 0.5, ece 0.1")]
)
def test_metrics_of_confidence_are_listed_where_one_selects(selected_by, listed):
    metrics = {"accuracy": 0.5, "ece": 0.1}
    *_, evaluated, finished = log(
        STARTED,
        StageStarted("distil", 40, 1.0, 640, 0),
        Evaluated("distil", 10, "validation", "student", metrics, best=False, selected_by=selected_by),
        StageFinished("distil", 40, 75.0, 10, metrics, "models/student"),
    )[:-1]
    assert evaluated == f"distil 10/40: validation {listed}"
    assert finished == f"stage distil finished in 1:15; the best was step 10: {listed}"


@pytest.mark.parametrize(
    ("selected_by", "listed"),
    [("s.spearman", "s.spearman 0.7, s.pearson 0.8"), ("s.pearson_dot", "s.spearman 0.7, s.pearson 0.8, s.pearson_dot 0.8")],
)  # fmt: skip
def test_metrics_of_unit_vectors_are_listed_once(selected_by, listed):
    metrics = {"s.spearman": 0.7, "s.pearson": 0.8, "s.spearman_dot": 0.7, "s.pearson_dot": 0.8}
    events = (
        STARTED,
        StageStarted("distil", 40, 1.0, 640, 0),
        Evaluated("distil", 10, "validation", "student", metrics, best=False, selected_by=selected_by),
        StageFinished("distil", 40, 75.0, 10, metrics, "models/student"),
    )
    *_, evaluated, finished = log(*events)[:-1]
    assert evaluated == f"distil 10/40: validation {listed}"
    assert finished == f"stage distil finished in 1:15; the best was step 10: {listed}"
    assert any("s.spearman_dot 0.7" in line for line in log(*events, detail="verbose"))


def test_a_calibration_is_told_with_what_it_changes():
    found = {"method": "temperature", "values": {"temperature": 1.83}, "rows": 500, "before": {"ece": 0.08, "nll": 0.5}}
    by_class = {"method": "vector", "values": {"scale": [1.0], "bias": [0.0]}, "rows": 9, "before": {}, "after": {}}
    calibration = {"topics": {**found, "after": {"ece": 0.02, "nll": 0.4}}, "tags": by_class}
    lines = log(StageFinished("distil", 40, 75.0, None, {}, "models/student", calibration))
    assert lines[1:3] == [
        "calibrated topics: temperature 1.83 of 500 validation rows; ece 0.08 to 0.02, nll 0.5 to 0.4",
        "calibrated tags: vector of 9 validation rows",
    ]


def test_what_was_told_before_the_run_is_not_told_again():
    assert log(Note("warning", "odd"), Note("warning", "new"), told={"odd"}) == ["warning: new"]


def test_a_log_is_not_flooded():
    events = [step(number) for number in range(1, 101)]
    lines = log(STARTED, StageStarted("distil", 100, 1.0, 1600, 0), *events, wait=1.0)
    told = [line.partition(":")[0] for line in lines[2:]]
    assert told == ["distil 1/100", *(f"distil {number}/100" for number in range(11, 100, 10))]


def test_a_log_names_the_terms_where_there_are_several():
    (line,) = log(STARTED, StageStarted("distil", 10, 1.0, 160, 0), step(1, 3.0, soft=1.0, hidden=2.0))[2:]
    assert line == "distil 1/10: loss 3 (soft 1, hidden 2), 32 rows/s"


def test_the_time_that_is_left_counts_evaluations_in():
    lines = log(STARTED, StageStarted("distil", 10, 1.0, 64, 2), *(step(number) for number in range(3, 9)), wait=30.0)
    assert lines[-2].endswith("32 rows/s")
    assert lines[-1].endswith("32 rows/s, 1:00 left")


def test_steps_in_which_teachers_fill_their_caches_do_not_tell_how_long_the_others_take():
    stream, clock = io.StringIO(), Clock()
    with Progress(Console(file=stream, width=100), clock) as progress:
        progress.kdspec_observe(STARTED, None)
        progress.kdspec_observe(StageStarted("distil", 524, 4.0, 33415, 0), None)
        for event in (step(1, seconds=60.0), step(2, seconds=90.0), *(step(number) for number in range(3, 41))):
            clock.now += event.seconds
            progress.kdspec_observe(event, None)
    told = [line for line in stream.getvalue().splitlines() if line.startswith("distil ")]
    assert [line.endswith(" left") for line in told] == [False, False, True]
    assert told[-1].endswith("32 rows/s, 4:11 left")


def test_the_panel_shows_stage_speed_and_terms():
    text = screen(
        STARTED,
        StageStarted("distil", 40, 1.0, 640, 0),
        step(1, 1.5, soft=1.0, hidden=2.0),
        step(2, 1.0, soft=0.5, hidden=1.0),
        *(step(number, 1.0, soft=0.5) for number in range(3, 7)),
    )
    first, *terms = text.splitlines()
    assert "stage 2/2 distil" in first
    assert "6/40  32 rows/s  5 s so far  12 s left" in " ".join(first.split(" ")).replace("   ", "  ")
    assert [line.split() for line in terms] == [
        ["loss", "1"],
        ["soft", "0.5", "×", "0.5", "█▁▁▁▁▁"],  # noqa: RUF001 - a multiplication sign is one
        ["hidden", "off", "█▁"],
    ]


def test_the_panel_shows_what_it_waits_for():
    assert "starting" in screen()
    assert "loading models and data" in screen(STARTED)


@pytest.mark.parametrize("width", [20, 40, 200])
def test_the_panel_fits_any_terminal(width):
    text = screen(STARTED, StageStarted("distil", 40, 1.0, 640, 0), step(1, long_name_of_a_term=1.0), width=width)
    assert max(map(len, text.splitlines())) <= width


def test_another_thread_draws_the_panel_while_events_come():
    progress = Progress(Console(file=io.StringIO(), width=100))
    console = Console(file=io.StringIO(), width=100)

    def draw():
        for _ in range(60):
            console.print(progress.panel())

    count = 0
    with ThreadPoolExecutor(1) as pool:
        drawn = pool.submit(draw)
        while not drawn.done():
            progress.kdspec_observe(STARTED, None)
            progress.kdspec_observe(StageStarted("distil", 40, 1.0, 640, 0), None)
            for _ in range(30):
                count += 1
                progress.kdspec_observe(step(count, **{f"term{count % 7}": 1.0}), None)
    assert drawn.exception() is None


@pytest.mark.parametrize(
    "events",
    [
        [step(1)],
        [Evaluated("distil", 1, "validation", "student", {}, best=False)],
        [StageFinished("distil", 1, 0.0, None, {}, "models/student")],
        [RunFailed("KD501", "a loss")],
        [STARTED, StageStarted("unknown", 0, 0.0, 0, 0), step(1, math.nan, seconds=0.0, soft=math.inf)],
        [STARTED, StageStarted("distil", 5, 1.0, 10, 5), step(5)],
    ],
)
def test_no_order_of_events_is_too_odd(events):
    log(*events)
    screen(*events)


def test_a_terminal_gets_the_panel_and_is_left_clean(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=True)
    with Progress(console) as progress:
        progress.kdspec_observe(STARTED, None)
        progress.kdspec_observe(StageStarted("distil", 40, 1.0, 640, 0), None)
        progress.kdspec_observe(step(1), None)
        progress.stop()
    text = stream.getvalue()
    assert "\x1b[?25l" in text  # the cursor is hidden
    assert text.rstrip().endswith("\x1b[2K")  # and what it stood in is erased
    assert text.index("\x1b[?25h") > text.index("\x1b[?25l")


@pytest.mark.parametrize("widgets", [False, True])
def test_a_notebook_gets_the_panel_where_it_can_show_it(monkeypatch, widgets):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if widgets else None)
    made = []
    monkeypatch.setattr("kdspec.render.progress.Live", lambda **options: made.append(options) or NoPanel())
    with Progress(Console(force_jupyter=True, file=io.StringIO())):
        assert len(made) == widgets


class NoPanel:
    """Takes the place of rich's panel, which needs a kernel."""

    def start(self):
        pass

    stop = start


def test_no_color_is_respected(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = io.StringIO()
    with Progress(Console(file=stream, width=100, force_terminal=True)) as progress:
        progress.kdspec_observe(STARTED, None)
        progress.kdspec_observe(Note("warning", "odd"), None)
    assert "warning: odd" in stream.getvalue()
    assert "\x1b[33m" not in stream.getvalue()


def test_it_is_an_observer():
    stream, plugins = io.StringIO(), Plugins()
    plugins.add(Plugin("kdspec", "", "progress", "progress", Progress(Console(file=stream))))
    assert plugins.problems == []
    answers = list(plugins.call("kdspec_observe", event=Note("info", "hello"), session=None))
    assert [answer.error for answer in answers] == [None]
    assert stream.getvalue() == "hello\n"


def test_what_plugins_say_moves_no_cursor():
    assert log(Note("info", "a\x1b[2Jb")) == ["a�[2Jb"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (60, "1:00"), (3725, "1:02:05"), (-1, "0 s")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(1.23456, "1.235"), (math.nan, "nan"), (1e-9, "1e-09")])
def test_numbers(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], ""),
        ([1.0], "▁"),
        ([1.0, 1.0], "▁▁"),
        ([0.0, 1.0], "▁█"),
        ([0.0, math.nan, 1.0], "▁ █"),
        ([math.inf], ""),
        ([-1e308, 1e308], "▁▁"),
    ],
)
def test_sparklines(values, text):
    assert sparkline(values) == text


def test_quiet_prints_warnings_alone():
    events = [STARTED, StageStarted("distil", 9, 1.0, 16, 0), step(1), Note("info", "fine")]
    assert log(*events, Note("warning", "odd"), RunFinished(1.0, {}), detail="quiet") == ["warning: odd"]


def test_verbose_prints_each_step_all_metrics_checkpoints_and_caches():
    cache = CacheState("distil", 3, "teacher", True, "", "cache", ("logits",), 16, 8, 128, 12, 4)
    seen = [STARTED, StageStarted("distil", 9, 1.0, 16, 0), step(1), step(2), step(3)]
    seen += [CheckpointSaved("distil", 3, "checkpoints/distil/step-3"), cache]
    seen += [Evaluated("distil", 3, "validation", "student", {"accuracy": 0.5, "ece": 0.1}, best=False)]
    verbose = log(*seen, detail="verbose")
    assert [line.partition(":")[0] for line in verbose[2:5]] == ["distil 1/9", "distil 2/9", "distil 3/9"]
    assert verbose[5:] == [
        "distil 3/9: checkpoint saved",
        "distil 3/9: cache of teacher: 12 rows read, 4 computed",
        "distil 3/9: validation accuracy 0.5, ece 0.1",
    ]
    normal = log(*seen)
    assert normal[3:] == ["distil 3/9: validation accuracy 0.5"]
