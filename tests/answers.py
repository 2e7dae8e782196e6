"""Run the notebooks named on the command line in this process, which imports torch once, and check what they show.

A cell that fails ends it with the error of the cell; so does an exercise under which nothing is printed or drawn.
"""

import os
import sys
from pathlib import Path

import nbformat
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output


def answered(shell: InteractiveShell, path: Path) -> dict[str, bool]:
    """Heading of each exercise -> whether a cell below it showed something."""
    shown, heading = {}, ""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            headings = [line for line in cell.source.splitlines() if line.startswith("## Exercise")]
            heading = headings[-1] if headings else heading
            shown |= dict.fromkeys(headings, False)
        else:
            with capture_output() as output:
                result = shell.run_cell(cell.source)
            assert result.success, f"{path.name}, {heading}:\n{cell.source}\n{output.stdout}"
            shown[heading] = shown.get(heading, False) or bool(output.stdout or output.outputs)
    return shown


if __name__ == "__main__":
    for source in [Path(name).resolve() for name in sys.argv[1:]]:
        os.chdir(source.parent)
        shell = InteractiveShell.instance()
        shell.reset(new_session=True)
        shown = answered(shell, source)
        silent = [heading for heading, anything in shown.items() if heading and not anything]
        assert not silent, f"{source.name}: nothing is shown under {', '.join(silent)}"
        print(source.name, "answers", len(shown) - 1)
