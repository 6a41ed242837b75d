"""What README and docs tell a reader to type, to write, or to open is what the package takes and the repository has."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from dataset_conversion.layouts.yaml_file import read_layout
from nnunet_transformers.cli import main
from nnunet_transformers.common import command_line
from nnunet_transformers.common.problems import UserError
from nnunet_transformers.comparison.experiment.file import parse_experiment

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Example:
    """A piece of code of a page; `language` is that of its fence, and empty for indented and inline code."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Example]:
    """Fenced and indented code."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w*)\n((?s:.*?))^```$|(?<=\n\n)((?: {4}\S.*\n)+)", text, re.MULTILINE):
        line = text.count("\n", 0, found.start()) + 1
        yield Example(page, line, found[1] or "", found[2] if found[3] is None else found[3])


def inline(page: Path) -> Iterator[Example]:
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"^```.*?^```$", _blank, text, flags=re.M | re.S)):
        yield Example(page, text.count("\n", 0, found.start()) + 1, "", " ".join(found[1].split()))


def _blank(found: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", found[0])


BLOCKS = [example for page in PAGES for example in blocks(page)]
INLINE = [example for page in PAGES for example in inline(page)]


def commands(program: str, verbs: str = "") -> list[tuple[Example, list[str], bool]]:
    """(where, arguments, whether they are all): in a sentence, what is required may be left out."""
    found = []
    for example in BLOCKS:
        for line in example.text.splitlines():
            if match := re.search(rf"(?:^|\$\()\s*({program}[^)]*)", line):
                found.append((example, arguments(match[1]), True))
    for example in INLINE:
        if match := re.match(rf"(?:eval \"\$\()?({program}[^)]*|(?:{verbs or program}) [^)]*)", example.text):
            found.append((example, arguments(match[1]), False))
    return found


def arguments(line: str) -> list[str]:
    """The words after the program, but for a comment, what happens to the output, and signs that more may be there."""
    line = re.sub(r"\s#.*|\s[>|].*|…|[\[\]]", "", line.removeprefix("nnunet-transformers "))
    return shlex.split(re.sub(r"\bID\b", "1", line))


def complaint(stopped: SystemExit, printed: str, whole: bool) -> str:
    """What argparse has against a command line."""
    problem = printed.strip().splitlines()[-1] if stopped.code and printed.strip() else ""
    may_lack = "the following arguments are required|expected at least one argument|expected one argument"
    return "" if not whole and re.search(may_lack, problem) else problem


OURS = commands("nnunet-transformers ", "list|convert|scan|phantom|compare|demo|doctor|env")
NNUNETS = commands(r"nnUNetv2_\w+ ")


def test_there_are_examples_to_look_at():
    assert len([whole for _, _, whole in OURS if whole]) > 10
    assert len([whole for _, _, whole in OURS if not whole]) > 20
    assert len(NNUNETS) >= 5


@pytest.mark.parametrize(("where", "words", "whole"), OURS, ids=str)
def test_every_command_line_is_one_that_the_command_takes(where, words, whole, capsys, monkeypatch):
    monkeypatch.setattr(command_line, "_run", lambda arguments: 0)  # parsed, but not run
    try:
        main(words)
        problem = ""
    except SystemExit as stopped:
        problem = complaint(stopped, capsys.readouterr().err, whole)
    assert not problem


class ParsedError(Exception):
    """nnU-Net has taken the command line, and would now run the command."""


@pytest.mark.parametrize(("where", "words", "whole"), NNUNETS, ids=str)
def test_every_command_line_of_nnunets_is_one_that_nnunet_takes(where, words, whole, capsys, monkeypatch):
    def parse(parser: argparse.ArgumentParser) -> None:
        _, unknown = parse_known_args(parser)
        if unknown:
            parser.error(f"unrecognized arguments: {unknown}")
        raise ParsedError

    parse_known_args = argparse.ArgumentParser.parse_known_args
    for way in ("parse_args", "parse_known_args"):
        monkeypatch.setattr(argparse.ArgumentParser, way, parse)
    monkeypatch.setattr("sys.argv", words)
    (command,) = importlib.metadata.entry_points(group="console_scripts", name=words[0])
    with pytest.raises((ParsedError, SystemExit)) as stopped:
        command.load()()
    if stopped.type is SystemExit:
        assert not complaint(stopped.value, capsys.readouterr().err, whole)


def test_the_first_commands_of_a_reader_work_in_their_order(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    here = {"DEST": "phantom", "/data/ATLAS_2": "phantom/ATLAS_2", "20": "5"}

    def run(page: str, start: str, *more: str) -> str:
        words = next(
            words for example, words, _ in OURS if example.page.name == page and " ".join(words).startswith(start)
        )
        capsys.readouterr()
        assert main([here.get(word, word) for word in (*words, *more)]) == 0
        return capsys.readouterr().out

    assert "nnUNetTrainerSwinUNETR" in run("README.md", "list")
    assert run("README.md", "env").startswith("export ")
    assert run("phantom.md", "phantom DEST", "--spacing", "8").strip() == "phantom"
    dataset = Path(run("README.md", "convert atlas /data/ATLAS_2").split()[-1])
    assert json.loads((dataset / "dataset.json").read_text())["numTraining"] == 5


@pytest.mark.parametrize("example", [each for each in BLOCKS if each.language == "python"], ids=str)
def test_python_examples_run_until_they_look_for_data(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    with pytest.raises(UserError, match="does not exist"):
        exec(compile(example.text, str(example), "exec"), {})


@pytest.mark.parametrize("example", [each for each in BLOCKS if each.language == "yaml"], ids=str)
def test_yaml_examples_are_read_as_what_they_are(example, tmp_path, monkeypatch):
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path))
    file = tmp_path / "example.yaml"
    file.write_text(example.text, encoding="utf-8")
    if "trainers" in yaml.safe_load(example.text):
        assert parse_experiment(file).models
    else:
        assert read_layout(file)


def test_every_file_of_the_repository_that_is_named_is_there():
    files = [path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.rglob("*.*") if ".venv" not in path.parts]
    missing = [
        f"{example}: {name}"
        for example in INLINE
        for name in re.findall(
            r"(?<![\w./])[\w-]+(?:/[\w.-]+)*\.py\b|(?:benchmarks|docs|tests)/[\w./-]+\w", example.text
        )
        if not (REPOSITORY / name).exists() and not any(f"/{file}".endswith(f"/{name}") for file in files)
    ]
    assert not missing


def test_every_relative_link_leads_to_a_file():
    dead = [
        f"{page.relative_to(REPOSITORY)}: {link}"
        for page in [*PAGES, REPOSITORY / "CHANGELOG.md"]
        for link in re.findall(r"\]\((?![a-z]+:|#)([^)\s#]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]
    assert not dead


def test_every_module_of_the_api_pages_is_there():
    modules = [
        module
        for page in (REPOSITORY / "docs" / "api").glob("*.md")
        for module in re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(modules) > 40
    places = [REPOSITORY / module.replace(".", "/") for module in modules]
    assert [
        each for each in places if not each.with_suffix(".py").exists() and not (each / "__init__.py").exists()
    ] == []
