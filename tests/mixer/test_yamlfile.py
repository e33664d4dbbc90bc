"""Files that stand on others: what is merged, what is replaced, and what is told where a base is wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mixer.errors import MixerError
from mixer.yamlfile import merged, name_run, read_mapping


def write(path: Path, **values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_file_is_its_base_with_its_own_keys_over_it(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", seed=1, eval={"interval": 5, "num_samples": 9}, schedule={"phases": [1, 2]})
    path = write(tmp_path / "deep" / "run.yaml", base="../base.yaml", eval={"interval": 7}, schedule={"phases": [3]})
    expected = {"seed": 1, "eval": {"interval": 7, "num_samples": 9}, "schedule": {"phases": [3]}}
    assert read_mapping(path) == expected


def test_bases_have_bases_and_later_ones_lie_over_earlier_ones(tmp_path: Path) -> None:
    write(tmp_path / "root.yaml", a=1, b=1, c=1, d=1)
    write(tmp_path / "one.yaml", base="root.yaml", b=2, c=2)
    write(tmp_path / "two.yaml", c=3)
    path = write(tmp_path / "run.yaml", base=["one.yaml", "two.yaml"], d=4)
    assert read_mapping(path) == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_two_bases_may_stand_on_the_same_file(tmp_path: Path) -> None:
    write(tmp_path / "root.yaml", a=1)
    for name in ("one", "two"):
        write(tmp_path / f"{name}.yaml", base="root.yaml", **{name: 1})
    assert read_mapping(write(tmp_path / "run.yaml", base=["one.yaml", "two.yaml"])) == {"a": 1, "one": 1, "two": 1}


@pytest.mark.parametrize("over", [None, 3, [1], "text"])
def test_what_is_no_section_on_both_sides_is_replaced_whole(over: Any) -> None:
    below = {"key": {"a": 1}}
    assert merged(below, {"key": over}) == {"key": over}
    assert merged({"key": over}, below) == below
    assert below == {"key": {"a": 1}}


def test_a_circle_names_both_files(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    write(first, base="second.yaml")
    write(second, base="./first.yaml")
    with pytest.raises(MixerError) as caught:
        read_mapping(first)
    assert str(caught.value) == f"{second} names {first} as its base, which stands on {second} itself @ $.base"
    write(first, base="first.yaml")
    with pytest.raises(MixerError, match="which stands on"):
        read_mapping(first)


def test_a_missing_or_broken_base_names_both_files(tmp_path: Path) -> None:
    path = write(tmp_path / "run.yaml", base="no.yaml")
    with pytest.raises(MixerError) as caught:
        read_mapping(path)
    assert str(caught.value) == f"cannot read {tmp_path / 'no.yaml'}, the base of {path}: No such file or directory"
    (tmp_path / "no.yaml").write_text("a: [")
    with pytest.raises(MixerError, match=f"the base of {path} is not usable as YAML"):
        read_mapping(path)
    (tmp_path / "no.yaml").write_text("- 1")
    with pytest.raises(MixerError, match=f"the base of {path} must hold a mapping"):
        read_mapping(path)


@pytest.mark.parametrize("base", [3, {"file": "a.yaml"}, ["a.yaml", 3]])
def test_a_base_that_is_no_file_name(tmp_path: Path, base: Any) -> None:
    with pytest.raises(MixerError, match=r"must name its bases by their files, as in base: other\.yaml.* @ \$\.base"):
        read_mapping(write(tmp_path / "run.yaml", base=base))


def test_names_of_model_and_run_are_filled_in() -> None:
    config = {
        "run_name": "{model.name}-code",
        "model": {"name": "org/pythia-70m"},
        "save_folder": "runs/{run_name}/checkpoints",
        "other": ["{run_name}", "{else}", {"deep": "{model.name}"}, 3],
    }
    whole = name_run(config)
    assert whole["run_name"] == "pythia-70m-code"
    assert whole["save_folder"] == "runs/pythia-70m-code/checkpoints"
    assert whole["other"] == ["pythia-70m-code", "{else}", {"deep": "pythia-70m"}, 3]
    assert config["run_name"] == "{model.name}-code"
    assert name_run({"run_name": "{model.name}", "model": "tiny"})["run_name"] == "tiny"
    assert name_run({"model": 3, "x": "{run_name}"}) == {"model": 3, "x": "{run_name}"}
