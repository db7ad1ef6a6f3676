"""`kdspec import-textbrewer`: what it writes is valid and means the same, and what is wrong is told at its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from kdspec import load_registry
from kdspec.launch.spec_reading import read
from kdspec.testing import check, run, tiny

TINY = Path(__file__).parent.parent.parent / "data" / "tiny" / "teacher"


def match(teacher, student, feature="hidden", loss="hidden_mse", weight=1, **more):
    return {"layer_T": teacher, "layer_S": student, "feature": feature, "loss": loss, "weight": weight} | more


@pytest.fixture
def imported(kdspec, tmp_path, monkeypatch):
    """`imported(settings, *options)` gives the stage `distil` and the whole text of the spec."""
    monkeypatch.chdir(tmp_path)

    def run(settings, *options):
        (tmp_path / "config.json").write_text(json.dumps(settings))
        outcome = kdspec("import-textbrewer", "config.json", *options)
        assert outcome.code == 0, outcome.err
        return yaml.safe_load(outcome.out)["stages"]["distil"], outcome.out

    return run


@pytest.fixture
def refused(kdspec, tmp_path, monkeypatch):
    """`refused(text, *options)` gives what is told of a file that cannot be imported."""
    monkeypatch.chdir(tmp_path)

    def run(text, *options, name="config.json"):
        (tmp_path / name).write_text(text)
        outcome = kdspec("import-textbrewer", name, *options)
        assert outcome.code == 1
        assert outcome.out == ""
        return outcome.err

    return run


EVERYTHING = {
    "temperature": 8,
    "temperature_scheduler": ["flsw", 1, 2],
    "hard_label_weight": 0.5,
    "hard_label_weight_scheduler": "linear_growth",
    "kd_loss_type": "mse",
    "kd_loss_weight": 0.7,
    "kd_loss_weight_scheduler": "linear_decay",
    "probability_shift": True,
    "is_caching_logits": True,
    "intermediate_matches": [
        match(0, 0, proj=["linear", 384, 768, {"lr": 1e-3, "eps": 1}]),
        match(4, 1, proj=["linear", 384, 768, {"lr": 1e-3, "eps": 1}]),
        match([0, 0], [0, 0], loss="mmd", weight=0.5),
        match([4, 8], [1, 2], loss="fsp", proj=["tanh", 384, 768]),
        match(12, 3, "attention", "attention_mse"),
    ],
    "gradient_accumulation_steps": 2,
    "ckpt_frequency": 2,
    "ckpt_epoch_frequency": 3,
    "ckpt_steps": 100,
    "log_dir": "logs",
    "output_dir": "saved",
    "device": "cuda",
    "fp16": True,
    "fp16_opt_level": "O2",
    "data_parallel": True,
    "local_rank": 0,
    "num_epochs": 40,
    "max_grad_norm": 1,
    "tau": 0.5,
}


def test_every_setting_is_in_the_spec_or_in_a_comment(imported):
    stage, text = imported(EVERYTHING)
    general, training = stage["distiller"]["general"], stage["training"]
    assert general["soft_labels"] == {
        "loss": "mse",
        "temperature": {"flsw": {"base": 8, "beta": 1, "gamma": 2}},
        "weight": "linear_decay",
        "probability_shift": True,
    }
    assert general["hard_labels"] == {"weight": "linear_growth"}
    assert general["matches"] == [
        {"feature": "hidden", "loss": "hidden_mse", "layers": {0: 0, 4: 1}, "projection": {"linear": {"lr": 0.001}}},
        {"feature": "hidden", "loss": "mmd", "layers": {0: 0}, "weight": 0.5},
        {"feature": "hidden", "loss": "fsp", "pairs": [{"teacher": [4, 8], "student": [1, 2]}], "projection": "tanh"},
        {"feature": "attention", "loss": "attention_mse", "layers": {11: 2}},
    ]
    assert training["epochs"] == 40
    assert (training["accumulate"], training["normalize"], training["precision"]) == (2, "micro_batch", "fp16")
    assert training["max_grad_norm"] == {"value": 1, "scope": "student"}
    assert training["evaluate"] == {"every_epochs": 0.5}
    assert training["teacher_cache"] == "auto"
    comments = " ".join(line.partition("#")[2] for line in text.splitlines())
    elsewhere = {"ckpt_steps", "log_dir", "output_dir", "device", "fp16_opt_level", "data_parallel", "local_rank"}
    assert {name for name in {*elsewhere, "tau", "`eps`"} if name not in comments} == set()


def test_the_defaults_are_those_of_textbrewer(imported):
    stage, _ = imported({})
    general, training = stage["distiller"]["general"], stage["training"]
    assert general["soft_labels"] == {"loss": "ce", "temperature": 4, "weight": 1}
    assert general["hard_labels"] == {"weight": 0}
    assert "matches" not in general
    assert (training["max_grad_norm"], training["lr_schedule"]) == (None, "constant")
    assert training["evaluate"] == {"every_epochs": 1}


def test_the_weight_that_a_schedule_replaces_is_noted(imported):
    _, text = imported({"kd_loss_weight": 0.5, "kd_loss_weight_scheduler": "linear_decay"})
    assert "0.5 in the first step" in text
    assert "{linear_decay: {from: 0.5}}" in text
    _, text = imported({"kd_loss_weight_scheduler": "linear_decay"})
    assert "in the first step" not in text


@pytest.mark.parametrize(
    ("settings", "when"),
    [
        ({"ckpt_frequency": 4}, {"every_epochs": 0.25}),
        ({"ckpt_epoch_frequency": 2}, {"every_epochs": 2}),
        ({"num_steps": 1000, "ckpt_steps": 100}, {"every_steps": 100}),
        ({"num_epochs": 3, "ckpt_steps": 100}, {"every_epochs": 1}),
    ],
)
def test_checkpoints_are_when_they_were(imported, settings, when):
    training = imported(settings)[0]["training"]
    assert training["evaluate"] == when
    assert training["checkpoint"] == when | {"keep": 2}


@pytest.mark.parametrize(
    ("rule", "temperature"),
    [
        ("none", 8),
        ("constant", 8),
        (["cwsm", 2], {"cwsm": {"base": 8, "beta": 2}}),
        (["flsw", {"beta": 1, "gamma": 3}], {"flsw": {"base": 8, "beta": 1, "gamma": 3}}),
    ],
)
def test_temperatures_are_translated(imported, rule, temperature):
    soft = imported({"temperature": 8, "temperature_scheduler": rule})[0]["distiller"]["general"]["soft_labels"]
    assert soft["temperature"] == temperature


def test_the_releases_divide_masked_gram_matrices_by_the_length(imported):
    settings = {"intermediate_matches": [match([0, 0], [0, 0], loss="nst")]}
    (made,) = imported(settings, "--dialect", "pypi")[0]["distiller"]["general"]["matches"]
    assert made["loss"] == {"nst": {"scale": "length"}}


@pytest.mark.parametrize(
    ("pairs", "options", "layers"),
    [
        ([(4, 1), (8, 2), (12, 3)], (), {3: 0, 7: 1, 11: 2}),
        ([(0, 0), (11, 2)], (), {0: 0, 11: 2}),
        ([(5, 1)], (), {5: 1}),
        ([(5, 1)], ("--attention-from", "1"), {4: 0}),
        ([(4, 1)], ("--attention-from", "0"), {4: 1}),
        ([(-1, -1)], (), {-1: -1}),
    ],
    ids=["a preset of TextBrewer", "a layer 0", "unknown", "said to be from 1", "said to be from 0", "from the end"],
)
def test_attention_is_counted_from_0(imported, pairs, options, layers):
    settings = {"intermediate_matches": [match(*pair, "attention", "attention_mse") for pair in pairs]}
    (made,) = imported(settings, *options)[0]["distiller"]["general"]["matches"]
    assert made["layers"] == layers


def test_a_layer_0_cannot_be_counted_from_1(refused):
    told = refused(json.dumps([match(0, 0, "attention", "attention_ce")]), "--attention-from", "1")
    assert "KD301" in told
    assert "config.json:1:2" in told


def test_one_teacher_layer_for_two_of_the_student_is_written_as_pairs(imported):
    settings = {"intermediate_matches": [match(4, 1), match(4, 2)]}
    (made,) = imported(settings)[0]["distiller"]["general"]["matches"]
    assert made["pairs"] == [{"teacher": 4, "student": 1}, {"teacher": 4, "student": 2}]


def test_the_student_has_the_sizes_of_the_matches(imported):
    _, text = imported({"intermediate_matches": [match(12, 4, proj=["linear", 312, 768])]})
    config = yaml.safe_load(text)["models"]["student"]["transformers"]["config"]
    sizes = {"hidden_size": 312, "num_attention_heads": 12, "intermediate_size": 1248}
    assert config == {"num_hidden_layers": 4} | sizes


def test_several_teachers_are_averaged_and_matches_are_skipped_as_in_textbrewer(imported):
    settings = {"temperature": 8, "intermediate_matches": [match(4, 1)]}
    stage, text = imported(settings, "--teacher", "a/b", "--teacher", "c/d", "--student", "e/f")
    joined = stage["distiller"]["multi_teacher"]
    assert joined["teachers"] == ["teacher_1", "teacher_2"]
    assert "matches" not in joined
    assert "#   - {teacher: teacher_1, feature: hidden" in text
    assert list(yaml.safe_load(text)["stages"]) == ["fine_tune_1", "fine_tune_2", "distil"]


@pytest.mark.parametrize(
    ("settings", "use"),
    [
        ({"is_caching_logits": True}, "on"),
        ({"is_caching_logits": False}, "off"),
        ({"is_caching_logits": True, "intermediate_matches": [match(4, 1)]}, "auto"),
        ({}, "auto"),
    ],
    ids=["on", "off", "on, and TextBrewer switches it off for matches", "left out"],
)
def test_the_cache_is_as_it_was(imported, settings, use):
    _, text = imported(settings)
    checked = check(text, folder=Path())
    assert checked.errors == ()
    assert checked.spec.stages["distil"].training.teacher_cache.use == use
    assert ("teacher_cache" in text) == bool(settings)


SEVERAL = {"temperature": 8, "tau": 0.5, "num_steps": 4, "ckpt_steps": 2, "intermediate_matches": [match(2, 1)]}


def test_several_tasks_have_a_teacher_each_and_share_the_configuration(imported):
    tasks = ("--task", "news=sequence_classification", "--task", "names=token_classification")
    stage, text = imported(SEVERAL, *tasks, "--teacher", "a/b", "--teacher", "c/d")
    made = stage["distiller"]["multi_task"]
    terms = {
        "soft_labels": {"loss": "ce", "temperature": 8, "weight": 1},
        "hard_labels": {"weight": 0},
        "matches": [{"feature": "hidden", "loss": "hidden_mse", "layers": {2: 1}}],
    }
    assert made["tasks"] == {name: {"teacher": f"{name}_teacher"} | terms for name in ("news", "names")}
    assert made["sampling"] == {"tau": 0.5, "size": "batches"}
    assert stage["training"]["steps"] == 4
    spec = yaml.safe_load(text)
    assert [list(task) for task in spec["tasks"].values()] == [["sequence_classification"], ["token_classification"]]
    assert spec["models"]["names_teacher"]["transformers"]["path"] == "c/d"
    assert spec["stages"]["fine_tune_names"]["distiller"]["supervised"] == {"model": "names_teacher", "task": "names"}


def test_what_is_written_of_several_tasks_runs(imported, tmp_path):
    tiny(tmp_path / "tiny")
    (tmp_path / "rows.csv").write_text("text,label\ngood,yes\nbad,no\nfine it is,yes\nawful,no\n")
    tasks = ("--task", "one=sequence_classification", "--task", "other=sequence_classification")
    rows = ("--data", "rows.csv", "--data", "rows.csv")
    _, text = imported(SEVERAL, *tasks, *rows, "--teacher", str(tmp_path / "tiny"), "--student", "like:1")
    sets = [f"stages.fine_tune_{task}.training={{steps: 1, batch_size: 2}}" for task in ("one", "other")]
    result = run(text, tmp_path / "runs", folder=tmp_path, sets=[*sets, "stages.distil.training.batch_size=2"])
    assert [stage.step for stage in result.stages] == [1, 1, 4]
    assert {(row.task, row.role) for row in result.table} >= {("one", "student"), ("other", "student")}


@pytest.mark.slow
def test_a_script_names_its_tasks(kdspec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [
        "teachers = {'news': load('a'), 'topics': load('b')}",
        "config = DistillationConfig(temperature=8, is_caching_logits=True)",
        "distiller = MultiTaskDistiller(TrainingConfig(), config, teachers, student, adaptors, adaptors)",
        "distiller.train(optimizer, dataloaders, num_steps=1000, tau=0)",
    ]
    Path("main.py").write_text("\n".join(lines))
    outcome = kdspec("import-textbrewer", "main.py")
    assert outcome.code == 0, outcome.err
    made = yaml.safe_load(outcome.out)["stages"]["distil"]["distiller"]["multi_task"]
    assert list(made["tasks"]) == ["news", "topics"]
    assert made["sampling"]["tau"] == 0
    assert "MultiTaskDistiller" not in outcome.out
    one = kdspec("import-textbrewer", "main.py", "--task", "news=sequence_classification")
    assert "give each of its tasks" in one.out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--task", "a=sequence_classification", "--task", "masked_lm"), "several tasks need names"),
        (("--task", "a=masked_lm", "--task", "a=masked_lm"), "several tasks need names"),
        (
            ("--task", "a=sequence_classification", "--task", "b=sequence_classification", "--data", "x.csv"),
            "there are 2 tasks: name a file for each",
        ),
        (("--data", "x.csv", "--data", "y.csv"), "there is one task: name a file for each"),
        (
            (*("--task=a=sequence_classification", "--task=b=sequence_classification"), *["--teacher=a/b"] * 3),
            "there are 2 tasks: name a teacher for each",
        ),
    ],
)
def test_tasks_that_do_not_fit_together_are_reported(kdspec, tmp_path, monkeypatch, options, told):
    monkeypatch.chdir(tmp_path)
    Path("config.json").write_text("{}")
    outcome = kdspec("import-textbrewer", "config.json", *options)
    assert outcome.code == 2
    assert told in " ".join(outcome.err.replace("│", " ").split())


def test_other_tasks_need_their_rows_too(imported):
    _, text = imported({}, "--task", "token_classification")
    assert yaml.safe_load(text)["tasks"]["main"]["token_classification"] == {"data": {"hub": {"path": "TODO"}}}


def test_several_files_are_put_together(kdspec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.json").write_text('{"temperature": 8}')
    Path("b.json").write_text('{"TrainingConfig": {"gradient_accumulation_steps": 4}}')
    Path("c.json").write_text(json.dumps([match(0, 0)]))
    outcome = kdspec("import-textbrewer", "a.json", "b.json", "c.json")
    stage = yaml.safe_load(outcome.out)["stages"]["distil"]
    assert stage["distiller"]["general"]["soft_labels"]["temperature"] == 8
    assert stage["training"]["accumulate"] == 4
    assert len(stage["distiller"]["general"]["matches"]) == 1


SCRIPT = """
L3 = [{'layer_T': 0, 'layer_S': 0, 'feature': 'hidden', 'loss': 'hidden_mse', 'weight': 1}]
M3 = [{'layer_T': [0, 0], 'layer_S': [0, 0], 'feature': 'hidden', 'loss': 'mmd', 'weight': 1}]
matches = {'L3': L3, 'M3': M3}
distiller = GeneralDistiller(TrainingConfig(), DistillationConfig(temperature=args.t, intermediate_matches=chosen))
distiller.train(optimizer, loader, num_epochs=20, max_grad_norm=1)
"""


def test_a_script_is_read_and_what_it_computes_is_given_beside_it(kdspec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("main.py").write_text(SCRIPT)
    Path("args.json").write_text('{"temperature": 8}')
    outcome = kdspec("import-textbrewer", "main.py", "args.json", "--matches", "L3", "--matches", "M3")
    stage = yaml.safe_load(outcome.out)["stages"]["distil"]
    assert outcome.err == ""
    assert [made["loss"] for made in stage["distiller"]["general"]["matches"]] == ["hidden_mse", "mmd"]
    assert stage["distiller"]["general"]["soft_labels"]["temperature"] == 8
    assert (stage["training"]["epochs"], stage["training"]["max_grad_norm"]["value"]) == (20, 1)
    outcome = kdspec("import-textbrewer", "main.py", "--matches", "L3")
    assert "main.py:5:79" in outcome.err
    assert "temperature: 4 # TODO: `temperature` is `args.t` in the script" in outcome.out


HEAD = """
parser.add_argument("--temperature", type=float, default="8")
parser.add_argument("--lr", default=2e-4)
parser.add_argument("--epochs", type=int)
parser.add_argument("--half", action="store_true")
"""


@pytest.fixture
def of_script(kdspec, tmp_path, monkeypatch):
    """`of_script(text, *options)` gives the spec of a script as plain data, and its text."""
    monkeypatch.chdir(tmp_path)

    def run(text, *options):
        Path("main.py").write_text(HEAD + text)
        outcome = kdspec("import-textbrewer", "main.py", *options)
        assert outcome.code == 0, outcome.err
        return yaml.safe_load(outcome.out), outcome.out

    return run


def marked(text):
    """The lines with a TODO, by what they set."""
    return {line.split(":")[0].strip("# "): line for line in text.splitlines() if "TODO" in line}


def test_options_in_a_json_file_go_before_their_defaults(kdspec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = "GeneralDistiller(TrainingConfig(fp16=args.half), DistillationConfig(args.temperature), T, S, a, a)"
    train = ".train(AdamW(S.parameters(), lr=args.lr), DataLoader(rows, batch_size=8), num_epochs=args.epochs)"
    Path("main.py").write_text(f"{HEAD}{calls}{train}")
    Path("args.json").write_text('{"lr": 3e-5, "epochs": 7, "temperature": 2, "half": true}')
    for files in (("main.py", "args.json"), ("args.json", "main.py")):
        outcome = kdspec("import-textbrewer", *files)
        assert outcome.code == 0, outcome.err
        stage = yaml.safe_load(outcome.out)["stages"]["distil"]
        assert stage["distiller"]["general"]["soft_labels"]["temperature"] == 2
        assert (stage["training"]["epochs"], stage["training"]["precision"]) == (7, "fp16")
        assert stage["training"]["optimizer"]["adamw"]["lr"] == 3e-5
        assert "the default of" not in outcome.out.replace("the default of its class", "")


def test_a_json_key_that_is_neither_an_option_nor_a_setting_is_refused(kdspec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("main.py").write_text(f"{HEAD}DistillationConfig(args.temperature)")
    Path("args.json").write_text('{"tempertaure": 2}')
    outcome = kdspec("import-textbrewer", "main.py", "args.json")
    assert outcome.code == 1
    assert "unknown key `tempertaure`" in outcome.err


@pytest.mark.parametrize("text", ["print(1)", "", "import textbrewer\nx = 3\n"])
def test_a_script_without_textbrewer_is_refused(kdspec, tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    Path("main.py").write_text(text)
    outcome = kdspec("import-textbrewer", "main.py")
    assert outcome.code == 1
    assert "no call of TextBrewer in `main.py`" in outcome.err
    assert outcome.out == ""


def test_the_header_names_the_files_and_whose_numbers_the_spec_has(of_script):
    _, text = of_script("DistillationConfig()")
    assert text.startswith("# From main.py, with the numbers of TextBrewer's repository.\n")
    _, text = of_script("DistillationConfig()", "--dialect", "pypi")
    assert text.startswith("# From main.py, with the numbers of TextBrewer's releases.\n")


@pytest.mark.parametrize(
    "call",
    [
        "DistillationConfig(**{'temperature': 6})",
        "options = dict(temperature=6)\nDistillationConfig(**options)",
        "class Settings:\n    temperature = 6\nDistillationConfig(temperature=Settings.temperature)",
        "class Settings:\n    temperature: int = 1\nof = Settings(temperature=6)\nDistillationConfig(of.temperature)",
        "of = argparse.Namespace(temperature=6)\nDistillationConfig(temperature=of.temperature)",
        "HALF = 3\nDistillationConfig(temperature=HALF * 2)",
    ],
)
def test_a_value_that_the_script_writes_elsewhere_is_read(of_script, call):
    made, text = of_script(call)
    assert made["stages"]["distil"]["distiller"]["general"]["soft_labels"]["temperature"] == 6
    assert "temperature" not in marked(text)


@pytest.mark.parametrize("value", ["1 / 0", "Settings.other", "Settings.twice", "'a' * 2", "6 ** 2"])
def test_a_value_that_only_a_run_gives_is_a_todo(of_script, value):
    _, text = of_script(f"class Settings:\n    twice = 1\n    twice = 2\nDistillationConfig(temperature={value})")
    assert f"`temperature` is `{value}` in the script" in marked(text)["temperature"]


@pytest.mark.parametrize(
    "student",
    [
        "S = Bert(BertConfig(num_hidden_layers=3, hidden_size=384))",
        "S = Bert(config=AutoConfig.from_pretrained('bert-base-cased', num_hidden_layers=3, hidden_size=384))",
        "c = AutoConfig.from_pretrained('b')\nc.num_hidden_layers = 3\nc.hidden_size = 96 * 4\nS = AutoModel.from_config(c)",
    ],
)
def test_sizes_in_the_configuration_of_the_student_are_read(of_script, student):
    made, text = of_script(f"{student}\nGeneralDistiller(TrainingConfig(), DistillationConfig(), T, S, a, a)")
    assert made["models"]["student"]["transformers"]["config"] == {"num_hidden_layers": 3, "hidden_size": 384}
    assert "config" not in marked(text)


def test_sizes_that_a_script_computes_are_not_made_up(of_script):
    student = "c = AutoConfig.from_pretrained('b')\nc.num_hidden_layers = n\nS = AutoModel.from_config(c)"
    _, text = of_script(f"{student}\nGeneralDistiller(TrainingConfig(), DistillationConfig(), T, S, a, a)")
    assert "the shape of your student; it is `AutoModel.from_config(c)` in the script" in marked(text)["config"]


def test_sizes_of_the_student_that_no_match_has_are_a_todo(of_script):
    _, text = of_script(
        "DistillationConfig(intermediate_matches=[{'layer_T': 2, 'layer_S': 1, 'feature': 'hidden', "
        "'loss': 'hidden_mse', 'proj': ['linear', 312, 768], 'weight': 1}])"
    )
    assert "hidden_size: 312" in text
    assert "the heads and the `intermediate_size`" in marked(text)["config"]


def test_the_default_of_an_option_is_a_value_and_its_line_says_so(of_script):
    made, text = of_script("GeneralDistiller(TrainingConfig(fp16=args.half), DistillationConfig(args.temperature))")
    distil = made["stages"]["distil"]
    assert distil["distiller"]["general"]["soft_labels"]["temperature"] == 8
    assert "precision" not in distil["training"]
    assert "temperature: 8 # the default of --temperature" in text
    assert "temperature" not in marked(text)


@pytest.mark.parametrize(
    ("call", "key"),
    [
        ("DistillationConfig(temperature=f())", "temperature"),
        ("DistillationConfig(kd_loss_weight=f())", "weight"),
        ("DistillationConfig(hard_label_weight=f())", "weight"),
        ("DistillationConfig(probability_shift=f())", "probability_shift"),
        ("DistillationConfig(kd_loss_type=f())", "loss"),
        ("DistillationConfig(is_caching_logits=f())", "teacher_cache"),
        ("TrainingConfig(gradient_accumulation_steps=f())", "accumulate"),
        ("TrainingConfig(ckpt_frequency=f())", "evaluate"),
        ("TrainingConfig(fp16=f())", "precision"),
        ("d.train(o, l, num_epochs=args.epochs)", "epochs"),
        ("d.train(o, l, num_steps=f())", "steps"),
        ("d.train(o, l, max_grad_norm=f())", "max_grad_norm"),
    ],
)
def test_what_a_script_computes_is_a_todo_at_its_line(of_script, call, key):
    _, text = of_script(call)
    assert "in the script" in marked(text)[key]


@pytest.mark.parametrize("argument", ["device=torch.device('cuda')", "output_dir=args.out", "local_rank=args.rank"])
def test_what_has_no_place_in_a_spec_is_not_asked_for(kdspec, tmp_path, monkeypatch, argument):
    monkeypatch.chdir(tmp_path)
    Path("main.py").write_text(f"TrainingConfig({argument})")
    outcome = kdspec("import-textbrewer", "main.py")
    assert outcome.err == ""
    assert argument.partition("=")[0] in outcome.out


def test_models_are_those_that_the_script_loads(of_script):
    lines = [
        "T = Model.from_pretrained('teacher_ckpt').to(device)",
        "S = Model.from_pretrained(pretrained_model_name_or_path='owner/small')",
        "S = S.to(device)",
        "d = GeneralDistiller(TrainingConfig(), DistillationConfig(), T, S, a, a)",
    ]
    made, _ = of_script("\n".join(lines))
    assert made["models"]["teacher"] == {"transformers": {"path": "teacher_ckpt"}}
    assert made["models"]["student"] == {"transformers": {"path": "owner/small"}}
    assert list(made["stages"]) == ["distil"], "the script distils from a checkpoint as it is"


@pytest.mark.parametrize(
    "teachers",
    [
        "[load('a'), load('b'), load('c')]",
        "[load(name) for name in ['a', 'b', 'c']]",
        "[load(name) for name in names]",
        "dict(x=load('a'), y=load('b'), z=load('c'))",
    ],
)
def test_several_teachers_are_kept(of_script, teachers):
    call = teachers.replace("load(", "Model.from_pretrained(")
    lines = ["names = ('a', 'b', 'c')", f"ts = {call}", "MultiTeacherDistiller(t, d, model_T=ts, model_S=s)"]
    made, _ = of_script("\n".join(lines))
    teachers = made["stages"]["distil"]["distiller"]["multi_teacher"]["teachers"]
    assert [made["models"][name]["transformers"]["path"] for name in teachers] == ["a", "b", "c"]


def test_teachers_that_a_loop_appends_are_kept(of_script):
    lines = ["ts = []", "for name in ['a', 'b']:", "    ts.append(Model.from_pretrained(name))"]
    lines += ["ts.append(Model.from_pretrained('c'))", "MultiTeacherDistiller(t, d, ts, s, a, a)"]
    made, _ = of_script("\n".join(lines))
    assert [made["models"][f"teacher_{n}"]["transformers"]["path"] for n in (1, 2, 3)] == ["a", "b", "c"]


def test_a_distiller_of_several_teachers_never_gets_one(of_script):
    made, text = of_script("MultiTeacherDistiller(t, d, build(), s, a, a)")
    assert made["stages"]["distil"]["distiller"]["multi_teacher"]["teachers"] == ["teacher_1", "teacher_2"]
    assert text.count("TODO: it is `build()` in the script") == 2


def test_no_model_and_no_data_is_invented(imported):
    _, text = imported({})
    made = yaml.safe_load(text)
    assert made["models"]["teacher"]["transformers"]["path"] == "TODO"
    assert made["tasks"]["main"]["sequence_classification"]["data"] == {"hub": {"path": "TODO"}}
    assert list(made["stages"]) == ["distil"]
    assert {"epochs", "batch_size", "optimizer", "lr_schedule", "config"} <= marked(text).keys()


@pytest.mark.parametrize(
    ("made", "optimizer"),
    [
        (
            "torch.optim.SGD(s.parameters(), lr=0.1, momentum=0.9)",
            {"sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0}},
        ),
        ("SGD(s.parameters(), 0.1)", {"sgd": {"lr": 0.1, "weight_decay": 0}}),
        ("AdamW(s.parameters(), lr=args.lr)", {"adamw": {"lr": 2e-4, "weight_decay": 0.01, "decay": "all"}}),
        ("AdamW(groups, lr=1e-5)", {"adamw": {"lr": 1e-5, "weight_decay": 0.1}}),
        ("Adam(s.parameters())", {"adam": {"lr": 1e-3, "weight_decay": 0}}),
    ],
)
def test_the_optimizer_is_read(of_script, made, optimizer):
    groups = "groups = [{'params': x, 'weight_decay': 0.1}, {'params': y, 'weight_decay': 0.0}]"
    spec, _ = of_script(f"{groups}\no = {made}\nd.train(o, l, num_epochs=3)")
    assert spec["stages"]["distil"]["training"]["optimizer"] == optimizer


def test_adamw_of_transformers_has_no_decay_by_default(of_script):
    spec, _ = of_script("from transformers import AdamW\nd.train(AdamW(s.parameters(), lr=1e-4), l, num_epochs=3)")
    assert spec["stages"]["distil"]["training"]["optimizer"] == {"adamw": {"lr": 1e-4, "weight_decay": 0}}


@pytest.mark.parametrize("made", ["Lamb(p, lr=1)", "build()", "unknown"])
def test_an_optimizer_that_cannot_be_read_is_a_todo(of_script, made):
    _, text = of_script(f"o = {made}\nd.train(o, l, num_epochs=3)")
    assert made in marked(text)["optimizer"]


def test_a_computed_learning_rate_is_a_todo(of_script):
    _, text = of_script("d.train(AdamW(s.parameters(), lr=rate()), l, num_epochs=3)")
    assert "TODO: `lr` is `rate()` in the script" in text


@pytest.mark.parametrize(
    ("given", "schedule"),
    [
        (
            "scheduler_class=get_linear_schedule_with_warmup, scheduler_args={'num_warmup_steps': 100}",
            {"linear": {"warmup": 100}},
        ),
        (
            "scheduler_class=get_linear_schedule_with_warmup, scheduler_args={'num_warmup_steps': int(0.1 * n), 'num_training_steps': n}",
            {"linear": {"warmup": 0.1}},
        ),
        (
            "scheduler=get_cosine_schedule_with_warmup(o, num_warmup_steps=5, num_training_steps=n)",
            {"cosine": {"warmup": 5}},
        ),
        ("scheduler_class=get_constant_schedule", "constant"),
        (
            "scheduler_class=torch.optim.lr_scheduler.StepLR, scheduler_args=dict_",
            {"step": {"every": 30, "gamma": 0.5}},
        ),
        ("scheduler=None", "constant"),
        ("num_epochs=3", "constant"),
    ],
)
def test_the_schedule_is_read(of_script, given, schedule):
    spec, text = of_script(f"dict_ = {{'step_size': 30, 'gamma': 0.5}}\nd.train(o, l, {given})")
    assert spec["stages"]["distil"]["training"]["lr_schedule"] == schedule
    assert "lr_schedule" not in marked(text)


@pytest.mark.parametrize(
    "given",
    [
        "scheduler_class=build()",
        "scheduler_class=MySchedule",
        "scheduler=made",
        "scheduler_class=get_linear_schedule_with_warmup, scheduler_args=f()",
        "scheduler_class=get_linear_schedule_with_warmup, scheduler_args={'num_warmup_steps': f()}",
    ],
)
def test_a_schedule_that_cannot_be_read_is_a_todo(of_script, given):
    _, text = of_script(f"d.train(o, l, {given})")
    assert "lr_schedule" in marked(text)


@pytest.mark.parametrize(
    ("loader", "size"), [("DataLoader(rows, batch_size=16)", 16), ("DataLoader(rows, 8)", 8), ("DataLoader(rows)", 1)]
)
def test_the_batch_size_is_that_of_the_data_loader(of_script, loader, size):
    spec, _ = of_script(f"l = {loader}\nd.train(o, l, num_epochs=3)")
    assert spec["stages"]["distil"]["training"]["batch_size"] == size


def test_functions_that_train_is_given_are_named(of_script):
    _, text = of_script("d.train(o, l, num_epochs=3, callback=evaluate, batch_postprocessor=mask)")
    assert "callback `evaluate`" in text
    assert "batch_postprocessor `mask`" in text


def test_several_lists_of_matches_must_be_chosen_from(refused):
    assert "L3, M3" in refused(SCRIPT, name="main.py")
    assert "did you mean `M3`?" in refused(SCRIPT, "--matches", "M33", name="main.py")
    assert "KD107" in refused(json.dumps({"intermediate_matches": []}), "--matches", "L3")


@pytest.mark.parametrize("student", [(), ("--student", "like:2"), ("--student", "owner/small")])
def test_a_file_that_it_writes_is_valid(kdspec, tmp_path, monkeypatch, student):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "kdspec.schema.json").write_text("{}")
    Path("config.json").write_text(json.dumps({"intermediate_matches": [match(2, 1)]}))
    Path("rows.csv").write_text("review,label\ngood,1\nbad,0\n")
    options = ("-o", "specs/one.yaml", "--teacher", str(TINY), "--data", "rows.csv", *student)
    outcome = kdspec("import-textbrewer", "config.json", *options)
    assert outcome.code == 0, outcome.err
    assert "next: kdspec plan specs/one.yaml" in outcome.err
    reading = read("specs/one.yaml", load_registry(installed=False))
    assert reading.diagnostics == ()
    assert kdspec("import-textbrewer", "config.json", "-o", "specs/one.yaml").code == 2


def test_the_schema_comes_with_a_file(kdspec, tmp_path, monkeypatch):
    monkeypatch.setattr("kdspec.spec.json_schema.text", lambda _: "{}")
    (tmp_path / "config.json").write_text("{}")
    assert (
        kdspec("import-textbrewer", str(tmp_path / "config.json"), "-o", str(tmp_path / "new" / "one.yaml")).code == 0
    )
    assert (tmp_path / "new" / "kdspec.schema.json").is_file()
    assert (tmp_path / "new" / "one.yaml").read_text().startswith("# yaml-language-server: $schema=kdspec.schema.json")


@pytest.mark.parametrize(
    ("text", "code", "place", "told"),
    [
        ('{"temperature": 8,}', "KD601", "1:19", "not JSON"),
        ('"text"', "KD601", "1:1", "a configuration is an object"),
        ('{\n "temprature": 8}', "KD101", "2:2", "did you mean `temperature`?"),
        ('{"temperature": "8"}', "KD103", "1:17", "remove the quotes"),
        ('{"temperature": 0}', "KD104", "1:17", "greater than 0"),
        ('{"temperature_scheduler": "flsw"}', "KD104", "1:27", '["flsw", beta, gamma]'),
        ('{"temperature_scheduler": null}', "KD104", "1:27", "`constant`, `flsw` and `cwsm`"),
        ('{"kd_loss_type": "kll"}', "KD201", "1:18", "did you mean `kl`?"),
        ('{"kd_loss_weight_scheduler": "linear"}', "KD201", "1:30", "unknown schedule"),
        ('{"kd_loss_weight_scheduler": 0.5}', "KD103", "1:30", "expected a string"),
        ('{"probability_shift": 1}', "KD103", "1:23", "`true` or `false`"),
        ('[{"layer_T": 1}]', "KD102", "1:2", "missing key `layer_S`"),
        (json.dumps([match(1, 1, feature="hiden")]), "KD104", "1:42", "did you mean `hidden`?"),
        (json.dumps([match(1, 1, loss="hidden_mes")]), "KD201", "1:60", "did you mean `hidden_mse`?"),
        (json.dumps([match(1, [1, 1], loss="mmd")]), "KD104", "1:2", "two layers of each model"),
        (json.dumps([match(1, 1, loss="mmd")]), "KD104", "1:2", "two layers of each model"),
        (json.dumps([match([1, 2], [1, 2])]), "KD104", "1:2", "one layer of each model"),
        (json.dumps([match(1, 1, "attention", "cos")]), "KD104", "1:2", "a loss for `hidden`"),
        (json.dumps([match(1, 1, proj=[])]), "KD104", "1:95", "a projection is written"),
        (json.dumps([match(1, 1, proj=["linera", 3, 4])]), "KD201", "1:95", "did you mean `linear`?"),
        (json.dumps([match(1, 1, weight=-1)]), "KD104", "1:84", "at least 0"),
        ('{"gradient_accumulation_steps": 0}', "KD104", "1:33", "greater than 0"),
        ('{"TrainingConfig": {"fp16_opt_level": "O4"}}', "KD104", "1:39", "`O3`"),
    ],
)
def test_errors_are_reported_with_line_and_column(refused, text, code, place, told):
    err = refused(text)
    assert f"error[{code}]" in err
    assert f"config.json:{place}\n" in err
    assert told in err


def test_a_setting_in_two_files_is_reported_with_both_places(kdspec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.json", "b.json"):
        Path(name).write_text('{"temperature": 8}')
    outcome = kdspec("import-textbrewer", "a.json", "b.json")
    assert outcome.code == 1
    assert "KD002" in outcome.err
    assert "a.json:1:2" in outcome.err
    assert "b.json:1:2" in outcome.err


def test_a_file_that_cannot_be_read_is_wrong_usage(kdspec, tmp_path):
    assert kdspec("import-textbrewer", str(tmp_path / "none.json")).code == 2
    assert kdspec("import-textbrewer", str(tmp_path)).code == 2


def test_a_task_without_an_example_needs_data(kdspec, tmp_path):
    (tmp_path / "a.json").write_text("{}")
    outcome = kdspec("import-textbrewer", str(tmp_path / "a.json"), "--task", "tensors")
    assert outcome.code == 2
    assert "--data" in outcome.err
