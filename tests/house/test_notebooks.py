"""Every library notebook, lesson and the index run from top to bottom, with all proofs in them."""

import pytest
from conftest import run

pytestmark = pytest.mark.slow


def test_notebooks_run():
    code, out, err = run("nbdev_test", "--n_workers", "2")
    told = [line for line in (out + err).splitlines() if "resource_tracker" not in line]
    assert code == 0, "\n".join(told)[-6000:]
