"""Results that are kept between runs, and the tables made of them."""

import pytest

from examples import techniques_qat
from examples.tables import Store, drop_cell, settings, write_table


def keys(*seeds, technique="A"):
    return [{"net": "n", "technique": technique, "seed": seed, "settings": "s"} for seed in seeds]


def test_a_run_that_was_killed_goes_on_after_its_last_result(tmp_path):
    measured = []

    def measure(key):
        if key["seed"] == 2 and len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(key["seed"])
        return {"drop": float(key["seed"])}

    path = tmp_path / "out" / "results.json"
    with pytest.raises(KeyboardInterrupt):
        Store(path).fill(keys(0, 1, 2), measure, fresh=False)
    assert [e["drop"] for e in Store(path).entries] == [0.0, 1.0]
    measured.append("again")
    Store(path).fill(keys(0, 1, 2), measure, fresh=False)
    assert measured == [0, 1, "again", 2]
    again = Store(path)
    again.fill(keys(1), lambda key: {"drop": 7.0}, fresh=True)
    assert {e["seed"]: e["drop"] for e in Store(path).entries} == {0: 0.0, 1: 7.0, 2: 2.0}


def test_results_of_another_technique_are_others(tmp_path):
    store = Store(tmp_path / "results.json")
    store.fill(keys(0), lambda key: {"drop": 1.0}, fresh=False)
    store.fill(keys(0, technique="B"), lambda key: {"drop": 2.0}, fresh=False)
    assert [e["drop"] for e in store.entries] == [1.0, 2.0]


def test_settings_tell_models_and_recipes_apart(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"1")
    second.write_bytes(b"2")
    found = [settings(first, "r", 1), settings(second, "r", 1), settings(first, "r", 2), settings(first, "q", 1)]
    assert len(set(found)) == 4
    second.write_bytes(b"1")
    assert settings(second, "r", 1) == found[0]


def test_a_cell_is_the_mean_and_the_largest_distance_from_it():
    assert drop_cell([{"drop": 1.0}, {"drop": 2.0}, {"drop": 6.0}]) == "3.00 ± 3.00"
    assert drop_cell([{"drop": -0.1}]) == "-0.10"
    assert drop_cell([{"refused": "no kernel"}]) == "refused"
    assert drop_cell([]) == ""


def test_a_table_replaces_what_lies_between_its_markers(tmp_path):
    document = tmp_path / "page.md"
    document.write_text("a\n<!-- one -->\nold\nold\n<!-- end -->\nb\n<!-- two -->\nkept\n<!-- end -->\n")
    write_table(str(document), "one", "new")
    assert document.read_text() == "a\n<!-- one -->\nnew\n<!-- end -->\nb\n<!-- two -->\nkept\n<!-- end -->\n"


def test_every_technique_of_training_is_a_recipe_of_every_net_and_has_settings_of_its_own():
    found = {
        (net, technique): techniques_qat.settings(net, technique)
        for net in techniques_qat.SUBJECTS
        for technique in techniques_qat.TECHNIQUES
    }
    assert len(set(found.values())) == len(found)


def test_the_table_of_training_has_rows_and_nets_as_declared():
    nets, (first, second) = list(techniques_qat.SUBJECTS), list(techniques_qat.TECHNIQUES)[:2]

    def entry(net, technique, drop, gap, agreement):
        values = {"net": net, "technique": technique, "drop": drop, "gap": gap, "argmax_agreement": agreement}
        return {**values, "float": 0.9}

    rows = techniques_qat.table(
        [
            entry(nets[1], second, 1.0, -0.3, 1.0),
            entry(nets[0], second, 2.0, 0.1, 0.99),
            entry(nets[1], first, 3.0, 0.2, 0.995),
        ]
    ).splitlines()
    assert rows[0] == f"| technique | {nets[0]} | {nets[1]} | largest gap | least argmax agreement |"
    assert rows[3] == f"| {first} |  | 3.00 | 0.20 | 99.50 % |"
    assert rows[4] == f"| {second} | 2.00 | 1.00 | 0.30 | 99.00 % |"


def test_the_table_of_steps_says_which_nets_a_trainer_refused():
    times = {"one": {"float": 2.0, "ours": 3.0}, "two": {"float": 4.0, "TFMOT, 8 bits": 6.0, "ours": 4.4}}
    assert techniques_qat.step_table(times).splitlines() == [
        "| trainer | one | two |",
        "| --- | --- | --- |",
        "| float | 2.0 (1.00) | 4.0 (1.00) |",
        "| TFMOT, 8 bits | refused | 6.0 (1.50) |",
        "| ours | 3.0 (1.50) | 4.4 (1.10) |",
    ]
