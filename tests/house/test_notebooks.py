"""Every library notebook, lesson and the index run from top to bottom, with all proofs in them."""

import pytest
from conftest import run

pytestmark = pytest.mark.slow


def test_notebooks_run():
    code, out, err = run("nbdev_test", "--n_workers", "2")
    assert code == 0, out[-3000:] + err[-3000:]
