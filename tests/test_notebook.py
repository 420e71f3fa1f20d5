import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.commands import ROOT

NOTEBOOK = ROOT / "docs" / "fedprune.ipynb"


def executed(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Run a notebook's cells from the checkout, in a kernel of its own."""
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(ROOT)}})
    return client.execute(env={"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})


def test_the_notebook_runs_and_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    executed(notebook)
    shown = [output for cell in cells for output in cell.outputs]
    assert not [output for output in shown if output.get("name") == "stderr"]
    kinds = [kind for output in shown for kind in output.get("data", {})]
    assert kinds.count("image/png") == 3
    assert kinds.count("text/html") >= 6


def test_a_cell_that_fails_fails_the_test() -> None:
    broken = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("import fedprune; fedprune.simulate(sparsity=2)")]
    )
    with pytest.raises(CellExecutionError, match="PlanError"):
        executed(broken)
