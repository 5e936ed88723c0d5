from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.compression.passes import PASSES, Step, parse_step
from edgekit.compression.recipes import read_pass_list
from edgekit.errors import RecipeError, UsageError


def test_a_pass_is_read_with_its_defaults() -> None:
    found = parse_step("distil=runs/lite2:alpha=0.7,epochs=3")
    assert (found.name, found.subject) == ("distil", "runs/lite2")
    assert (found.values["alpha"], found.values["epochs"], found.values["temperature"]) == (0.7, 3, 4.0)
    assert parse_step("qat") == parse_step("qat=")
    assert parse_step("distil=C:/models/a.keras:epochs=1").subject == "C:/models/a.keras"
    assert parse_step("distil=runs/lite2").subject == "runs/lite2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("qta=epochs=2", "no pass is called 'qta'; did you mean 'qat'"),
        ("distil=t:alhpa=0.5", "distil has no argument 'alhpa'; did you mean 'alpha'"),
        ("qat=epochs=many", "qat's epochs must be a whole number, not 'many'"),
        ("qat=epochs=2.5", "must be a whole number"),
        ("qat=2", "'2' is no argument; write name=value"),
        ("distil=:epochs=2", "distil needs a teacher"),
        ("distil=t:alpha=1.5", "alpha must lie between 0 and 1"),
        ("distil=t:alpha=0", "follows no teacher"),
        ("distil=t:temperature=0", "temperature must lie"),
        ("qat=rate=0", "rate must lie"),
    ],
)
def test_a_wrong_pass_names_the_near_miss(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_step(text)


def test_a_recipe_file_says_what_the_options_say(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('seed = 3\n[[pass]]\nname = "distil"\nteacher = "runs/t"\nepochs = 2\n[[pass]]\nname = "qat"\n')
    found = read_pass_list(path)
    assert found.seed == 3
    assert found.steps == (parse_step("distil=runs/t:epochs=2"), parse_step("qat"))


@pytest.mark.parametrize(
    ("lines", "option"),
    [
        ('name = "qat"\nteacher = "runs/t"\nalpha = 0.7', "qat=teacher=runs/t,alpha=0.7"),
        ('name = "prune"\nkind = "structured"\nmacs = 0.5\nteacher = "none"', "prune=structured:macs=0.5,teacher=none"),
        (
            'name = "prune"\nkind = "weights"\nsparsity = 0.5\nteacher = "runs/t"',
            "prune=weights:sparsity=0.5,teacher=runs/t",
        ),
        ('name = "cluster"\nvalues = 16', "cluster=values=16"),
    ],
)
def test_what_is_a_subject_in_one_pass_is_an_argument_in_another(tmp_path: Path, lines: str, option: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f"[[pass]]\n{lines}\n")
    (step,) = read_pass_list(path).steps
    assert step == parse_step(option)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('[[pass]]\nname = "qat"\n\n[[pass]]\nname = "qat"\nepoch = 2\n', 6, "did you mean 'epochs'"),
        ('[[pass]]\nname = "qat"\n\n[[pass]]\nname = "distl"\n', 5, "did you mean 'distil'"),
        ('[[pass]]\nname = "qat"\nepochs = "two"\n', 3, "must be a whole number"),
        ("# none\n[[pass]]\nepochs = 2\n", 2, "is missing: which pass"),
        ('sede = 1\n[[pass]]\nname = "qat"\n', 1, "did you mean 'seed'"),
        ('seed = -1\n[[pass]]\nname = "qat"\n', 1, "from 0 on"),
    ],
)
def test_a_bad_recipe_names_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        read_pass_list(path)
    assert f"recipe.toml:{line}:" in str(caught.value)


@pytest.mark.parametrize("text", ["", "seed = 1\n", "pass = 3\n", "[[pass\n"])
def test_a_recipe_without_passes_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(RecipeError):
        read_pass_list(path)


def test_every_pass_of_the_table_can_be_loaded() -> None:
    for name in PASSES:
        text = {"distil": "distil=teacher", "prune": "prune=structured:macs=0.5"}.get(name, name)
        assert isinstance(parse_step(text), Step)
