"Answers are compared image by image, and what cannot be aligned or read in one way is refused by name."

import json

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from test_right_reports import make_rows, make_run, mid

from mid_nbdev import InputError, compare
from mid_nbdev.analysis.outcomes import read_outcomes
from mid_nbdev.analysis.stats import detectable_gain, report

ANSWERS = pd.DataFrame({"id": [f"{number:03}" for number in range(40)], "correct": [1, 0] * 20})


def written(folder, name, table):
    "A table as a file in one of the formats."
    path = folder / name
    if name.endswith(".csv"): table.to_csv(path, index=False)
    elif name.endswith(".tsv"): table.to_csv(path, index=False, sep="\t", encoding="utf-16")
    elif name.endswith(".parquet"): table.to_parquet(path, index=False)
    elif name.endswith(".jsonl"): table.to_json(path, orient="records", lines=True)
    else: table.to_json(path, orient="records")
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.parquet", "a.jsonl", "a.json"])
def test_every_format_gives_the_same_answers(name, tmp_path):
    shuffled = ANSWERS.assign(correct=[1] * 40).sample(frac=1, random_state=1)
    path = written(tmp_path, name, shuffled.assign(score=0.5, note="é"))
    line = compare(ANSWERS, path).iloc[1]
    assert (line["corrected"], line["broken"], line["gain"], line["images"]) == (20, 0, 50, 40)
    assert line["p_value"] == pytest.approx(mcnemar([[0, 20], [0, 0]], exact=True).pvalue)
    assert read_outcomes(path)[None].table.index.min() == "000"  # ids stay text


def test_runs_are_compared_by_all_recipes_that_they_share(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        make_run(tmp_path / name, recipes="CC,5FC", rows=make_rows("CC,5FC", 8, seed=seed))
    table = compare(tmp_path / "a", tmp_path / "b")
    assert table["recipe"].tolist() == ["CC", "CC", "5FC", "5FC"] and table["p_holm"].notna().sum() == 2
    one = compare(tmp_path / "a", tmp_path / "b", recipe="5fc")
    assert one["recipe"].tolist() == ["5FC", "5FC"]
    rows = [make_rows("CC,5FC", 8, seed=seed).query("recipe == '5FC'") for seed in (0, 1)]
    same = report(pd.concat([rows[0], rows[1].assign(recipe="x")]), "5FC").iloc[1]
    names = ("gain", "gain_low", "gain_high", "corrected", "broken", "p_value", "nll_change", "nll_low", "nll_high")
    assert one.iloc[1][[*names]].tolist() == pytest.approx(same[[*names]].tolist(), rel=1e-6)
    with pytest.raises(InputError, match="--recipe '3RC' is not in .*a; it has CC, 5FC"):
        compare(tmp_path / "a", tmp_path / "b", recipe="3RC")


def test_class_numbers_with_leading_zeros_are_numbers(tmp_path):
    table = pd.DataFrame({"id": [*"abcd"], "label": ["01", "02", "10", "03"], "prediction": [*"12", "10", "4"]})
    written(tmp_path, "zeros.csv", table)
    line = compare(ANSWERS.head(4).assign(id=[*"abcd"]), tmp_path / "zeros.csv").iloc[1]
    assert (line["top1"], line["corrected"], line["broken"]) == (75, 1, 0)


def test_a_run_is_compared_with_a_file(tmp_path):
    run = make_run(tmp_path / "a", recipes="CC,5FC", rows=make_rows("CC,5FC", 8))
    rows = run.rows()[["image", "label", "prediction", "recipe"]]
    path = written(tmp_path, "b.csv", rows[rows["recipe"] == "CC"].drop(columns="recipe"))
    with pytest.raises(InputError, match="choose it with --recipe"): compare(run, path)
    line = compare(run, path, recipe="CC").iloc[1]
    assert line["gain"] == line["corrected"] == line["broken"] == 0 and line["p_value"] == 1
    assert compare(run, written(tmp_path, "c.parquet", rows))["recipe"].nunique() == 2  # a column of recipes is read


REFUSED = {
    "ids in one alone": (ANSWERS.iloc[2:], "2 of 40 ids are only in table 1 .first: '000', '001'"),
    "no id in both": (ANSWERS.assign(id="x" + ANSWERS["id"]), "an image needs the same id in both"),
    "doubled ids": (pd.concat([ANSWERS, ANSWERS.iloc[:1]]), "1 ids occur more than once .first: '000'"),
    "empty ids": (ANSWERS.assign(id=""), "40 rows have no id"),
    "no id": (ANSWERS.rename(columns={"id": "n"}), "no column of image ids among .*--id"),
    "two ids": (ANSWERS.assign(image="a"), "'id' and 'image' could both be meant; choose one, such as --id 'id'"),
    "no answers": (ANSWERS[["id"]], "no column says whether a prediction is correct"),
    "other words": (ANSWERS.assign(correct="2"), "expected 0 or 1"),
    "a gap": (ANSWERS.assign(correct=ANSWERS["correct"].where(ANSWERS["id"] != "003")),
              "1 rows have something else .first: '003'"),
    "percent": (ANSWERS.assign(p_true=70), "expected a probability from 0 to 1"),
    "names and numbers": (ANSWERS[["id"]].assign(label="cat", pred=3), "no prediction is among the labels"),
    "no rows": (ANSWERS.iloc[:0], "it has no rows"),
    "likelihoods alone": (ANSWERS[["id"]].assign(p_true=0.5), "cannot be compared: some have only"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_align_is_refused(kind):
    table, said = REFUSED[kind]
    with pytest.raises(InputError, match=said): compare(ANSWERS, table)


def test_other_labels_and_other_files_are_refused(tmp_path):
    labelled = ANSWERS.assign(label=3)
    assert compare(labelled, labelled.assign(label="3.0"))["gain"].iloc[1] == 0
    with pytest.raises(InputError, match="different labels for 1 of 40 images .first: '005' has '3' and '4'"):
        compare(labelled, labelled.assign(label=np.where(ANSWERS["id"] == "005", 4, 3)))
    rows = make_rows("CC", 8)
    make_run(tmp_path / "a", recipes="CC", rows=rows)
    make_run(tmp_path / "b", recipes="CC", rows=rows.assign(content="1" * 16))
    with pytest.raises(InputError, match="different contents of the image file for 8 of 8"):
        compare(tmp_path / "a", tmp_path / "b")
    with pytest.raises(InputError, match="given more than once"): compare(tmp_path / "a", tmp_path / "a")


BAD_FILES = {
    "two names.csv": "id,acc,acc\n1,0,1\n", "long rows.csv": "id,acc\n1,0,1\n", "longer.csv": "id,acc\n1,0\n2,1,0\n",
    "empty.csv": "", "cut.jsonl": '{"id": 1, "acc"', "list.json": "[1, 2]", "text.parquet": "PAR1", "a.txt": "id,acc\n",
    "header.csv": "id,acc\n", "nested.json": "[" * 100_000,
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_end_in_one_line(name, tmp_path):
    (tmp_path / name).write_text(BAD_FILES[name])
    written(tmp_path, "good.csv", ANSWERS)
    output, told = mid("compare", "good.csv", name, cwd=tmp_path, status=2)
    assert output == "" and told.splitlines()[-1].startswith("error: ") and name in told


def test_the_command_says_what_it_compared(tmp_path):
    written(tmp_path, "a.csv", ANSWERS.rename(columns={"id": "File Name"}))
    for name in "bc": written(tmp_path, f"{name}.csv", ANSWERS.assign(correct=1, extra=0.5))
    output, told = mid("compare", "a.csv", "b.csv", "c.csv", cwd=tmp_path)
    assert "a.csv: id from 'File Name', correct from 'correct'" in told and "Holm's p" in output
    assert "20 / 0" in output and "40 images detect gains of at least" in output and "power 0.8" in output
    output, _ = mid("compare", "a.csv", "b.csv", "--format", "json", "--power", 0.9, cwd=tmp_path)
    assert json.loads(output)[1]["detectable"] == pytest.approx(detectable_gain(20, 0, 40, 0.9))
    assert "power 80" in mid("compare", "a.csv", "b.csv", "--power", 80, cwd=tmp_path, status=2)[1]
    written(tmp_path, "d.csv", ANSWERS[["id"]].assign(p_true=0.5))
    written(tmp_path, "e.csv", ANSWERS[["id"]].assign(p_true=np.linspace(0.5, 0.9, 40)))
    output, _ = mid("compare", "d.csv", "e.csv", cwd=tmp_path)
    assert "NLL change" in output and "Only likelihoods are compared" in output and "top-1" not in output
    told = mid("compare", "a.csv", "b.csv", "--correct", "none", cwd=tmp_path, status=2)[1]
    assert "--correct 'none': no file has this column" in told


def test_the_smallest_detectable_gain_is_that_of_the_exact_test():
    assert detectable_gain(0, 0, 20) > 25 and np.isnan(detectable_gain(0, 0, 4))
    gains = [detectable_gain(round(n * 0.03), round(n * 0.02), n) for n in (200, 2_000, 50_000)]
    assert gains[0] > gains[1] > gains[2] > 0.2 and detectable_gain(3, 2, 100, 0.5) < detectable_gain(3, 2, 100, 0.9)
