"""Importing the package sets what must be set before torch is loaded, and leaves what the user has set."""

import os
import subprocess
import sys

import pytest

SETTINGS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "4096", "OMP_WAIT_POLICY": "PASSIVE"}
PRINT = f"import os, sys, merlib; print(*(os.environ[name] for name in {tuple(SETTINGS)}), 'torch' in sys.modules)"


@pytest.mark.parametrize("mine", [{}, {"OMP_WAIT_POLICY": "ACTIVE"}])
def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(mine):
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS} | mine
    printed = subprocess.run([sys.executable, "-c", PRINT], env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.split() == [*(SETTINGS | mine).values(), "False"]
