"""The site as a whole: made of the committed results, every link resolves, nothing is loaded from the network."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site as `make site` makes it."""
    folder = tmp_path_factory.mktemp("site")
    here = {name: value for name, value in os.environ.items() if name != "MERLIB_RESULTS"}
    sphinx = ["sphinx", "--quiet", "--fail-on-warning", "-c", ROOT / "docs/site", "-d", folder / "doctrees"]
    for words in (["merlib.pages", folder / "pages"], [*sphinx, folder / "pages", folder / "html"]):
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=ROOT, env=here, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    return folder / "html"


class Page(HTMLParser):
    """The links of a page, the places that links can point to, what it loads, and pictures without words."""

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.places, self.loads, self.silent, self.phone = [], {""}, [], [], False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        of = dict(attributes)
        self.places |= {of[name] for name in ("id", "name") if of.get(name)}
        if tag == "a" and of.get("href"):
            self.links.append(of["href"])
        if tag == "link" and of.get("rel") not in ("search", "index", "next", "prev", "canonical"):
            self.loads.append(of["href"])
        if tag in ("script", "img", "iframe", "source", "video", "audio") and of.get("src"):
            self.loads.append(of["src"])
        pictures = tag == "img" or of.get("role") == "img"
        if pictures and not (of.get("alt") or of.get("aria-label") or of.get("aria-hidden") == "true"):
            self.silent.append(of)
        self.phone |= tag == "meta" and of.get("name") == "viewport"


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "webpack-macros.html"}


def test_every_internal_link_leads_to_a_page_and_to_a_place_on_it(site, pages):
    broken, followed = [], 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages[target].places if target in pages else {""} if target.is_file() else ()
            followed += 1
            if unquote(parts.fragment) not in known:
                broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken and followed > 10_000


def test_nothing_is_loaded_from_the_network_and_all_that_is_loaded_is_there(site, pages):
    loads = {(path, load) for path, page in pages.items() for load in page.loads}
    foreign = {load for _, load in loads if urlsplit(load).netloc}
    lacking = {load for path, load in loads if not (path.parent / unquote(urlsplit(load).path)).is_file()}
    styles = {
        path.name: re.findall(r"(?:url\(|@import) *['\"]?(?:https?:)?//", path.read_text())
        for path in site.rglob("*.css")
    }
    assert not foreign and not lacking and styles and not any(styles.values())


def test_every_picture_has_words_and_every_page_fits_a_phone(site, pages):
    assert not {path.relative_to(site): page.silent for path, page in pages.items() if page.silent}
    assert all(page.phone for page in pages.values())


def test_formulas_are_mathml(site):
    page = (site / "papers/mfcre/notebooks/2_train_table2.html").read_text(encoding="utf-8")
    assert "<math" in page and "$$" not in page and "MathJax" not in page


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(site, browser):
    """Open a page of the site from its folder; at the end, the browser's console must have told no error."""
    context, errors = browser.new_context(), []

    def open_page(name: str, **size):
        tab = context.new_page()
        if size:
            tab.set_viewport_size(size)
        tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("requestfailed", lambda request: errors.append(request.url))
        tab.goto((site / name).as_uri())
        return tab

    yield open_page
    context.close()
    assert errors == []


def test_search_finds_the_row_of_an_ablation(visit):
    tab = visit("index.html")
    tab.keyboard.press("Control+k")
    tab.keyboard.type("wo_simam")
    tab.keyboard.press("Enter")
    tab.locator("#search-results a[href='papers/mfcre/table4.html']").wait_for()


def test_a_row_unfolds_by_keyboard_into_the_command_that_reproduces_it(visit):
    tab = visit("papers/attsf_net/table6.html")
    command = tab.locator("#audio pre", has_text="merlib run attsf_net/table6/audio --data real").first
    assert not command.is_visible()
    tab.locator("#audio summary").focus()
    tab.keyboard.press("Enter")
    assert command.is_visible() and tab.locator("#audio button.copybtn").first.is_visible()


def test_a_reader_finds_three_things_in_three_clicks(visit):
    """From the first page: a command, the reason of a reading, the verdict on a claim."""
    tab = visit("index.html")
    tab.locator("article").get_by_role("link", name="ATTSF-Net").click()
    tab.locator("article").get_by_role("link", name="Table VI:").click()
    tab.locator("#audio summary").click()
    assert tab.locator("#audio pre", has_text="merlib run attsf_net/table6/audio").first.is_visible()
    tab = visit("index.html")
    tab.locator("article").get_by_role("link", name="MFCRE").click()
    tab.locator("article").get_by_role("link", name="optimiser", exact=True).click()
    assert "ten times as high" in tab.locator("section#optimiser").inner_text()
    tab = visit("index.html")
    tab.locator("article").get_by_role("link", name="HFF").click()
    assert "undecided" in tab.locator("li", has_text="weighted F1 above COGMEN").first.inner_text()


@pytest.mark.parametrize("name", ["index", "papers/attsf_net/table5", "papers/hff/index", "lessons/01_audit"])
def test_on_a_phone_no_page_is_wider_than_the_screen(visit, name):
    tab = visit(f"{name}.html", width=390, height=800)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_dark_mode_changes_the_colours_of_tables_and_drawings(visit):
    tab = visit("papers/hff/index.html")
    colours = "['body', '.drawing rect', '.drawing text'].map(name => getComputedStyle(document.querySelector(name)))"
    colours += ".map(style => style.backgroundColor + style.fill)"
    tab.evaluate("document.documentElement.dataset.theme = 'light'")
    light = tab.evaluate(colours)
    tab.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert all(a != b for a, b in zip(light, tab.evaluate(colours), strict=True))
