"""`python -m merlib.pages FOLDER`: write the sources of the site, from the committed results on real data."""

import sys
from pathlib import Path

from merlib.pages import site

if __name__ == "__main__":
    site.write(Path(sys.argv[1]), "real")
