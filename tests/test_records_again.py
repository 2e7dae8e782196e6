"""Committed records, computed once more from the sources of their data: the same numbers, to the last digit."""

import pytest
import torch

from merlib import study
from merlib.places import CHECKOUT
from merlib.study import records, runs

ROWS = ("majority", "ridge", "pooled_mlp")  # of ATTSF-Net's Table IX: floors on MOSI, seconds each
KEYS = ["row", "column", "fold", "seed", "selection"]
SAME = ["value", "epoch", "n", "run", "recipe", "declared", "versions", "features", "never_predicted"]


def test_cheap_committed_records_come_out_again_to_the_last_digit(prepare, shared_data, places, monkeypatch, tmp_path):
    with monkeypatch.context() as committed:
        committed.setenv("MERLIB_RESULTS", str(CHECKOUT / "results"))
        was = records.read_records("attsf_net", "table9", "real")
    was = was[was["row"].isin(ROWS)]
    assert set(was["row"]) == set(ROWS)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        (tmp_path / "work").mkdir()
        prepare.make("mosi", shared_data, tmp_path / "work", "real", seconds=False)
        study.run_table("attsf_net", "table9", row=ROWS, data="real", seeds=sorted(set(was["seed"])), progress=False)
        here = runs.processor()
    finally:
        torch.set_num_threads(threads)

    now = records.read_records("attsf_net", "table9", "real")
    was, now = (table.set_index(KEYS).sort_index() for table in (was, now))
    assert was.index.equals(now.index)
    for row in ROWS:
        old, new = was.loc[row], now.loc[row]
        if row == "pooled_mlp" and set(old["device"]) != {here}:
            pytest.skip(f"{row} was recorded on {', '.join(set(old['device']))}; this is {here}")
        assert new[SAME].equals(old[SAME]), (row, new[SAME].compare(old[SAME]))
