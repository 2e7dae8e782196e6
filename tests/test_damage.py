"""A share of the campaign of damaged inputs (`tests/campaign/damage.py`): every fault of these inputs is answered."""

import subprocess
import sys
from pathlib import Path

KINDS = ("prepared text", "pickle of MMSA", "corpus of a root", "features", "records", "finished run", "notebook")


def test_damaged_inputs_end_in_a_clear_message_or_in_the_same_result():
    program = Path(__file__).parent / "campaign" / "damage.py"
    kinds = [word for kind in KINDS for word in ("--kind", kind)]
    command = [sys.executable, str(program), "--cases", "42", "--seed", "0", *kinds]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "0 faults of 42 cases" in done.stdout
