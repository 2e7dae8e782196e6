"""The grammar of papers/*.toml as types. How to write one: papers/README.md; how it is read: loading.py."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, PositiveInt

from merlib.declarations.leaves import flat
from merlib.errors import one_of

AVERAGES = Literal[
    "accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "macro_precision", "macro_recall", "weighted_precision",
    "weighted_recall", "acc2", "acc7", "f1_acc2", "mae", "correlation",
]  # fmt: skip
LETTERS = {"T": "text", "A": "audio", "V": "visual"}  # of the modalities, in declarations and commands
SCORES: tuple[str, ...] = get_args(AVERAGES)  # of a whole test set; accuracy is also called WA, balanced accuracy UA
OTHERS = Literal["f1", "precision", "recall", "count", "parameters", "seconds", "loss", "setting"]
LOWER_IS_BETTER = ("mae", "loss", "seconds", "parameters")
OF_CLASS = ("f1", "precision", "recall")  # scores of one class
SHARES = {*SCORES, *OF_CLASS} - {"mae", "correlation"}  # from 0 to 100 percent


class Strict(BaseModel):
    """A declaration: it is immutable, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(Strict):
    """What a column of a table measures. Where rows differ in `corpus`, `emotion` or `average`, they name it."""

    metric: Literal[AVERAGES, OTHERS]
    label: str = ""
    corpus: str | None = None
    emotion: str | dict[str, str] | None = None
    modalities: str | None = None  # T, A, V or several of them: what the network of the column reads
    unit: Literal["percent", "fraction", "count"] = "percent"
    fold: int | str | None = None


class Row(Strict):
    """A row as printed (`reported`: the digits, as strings), or a row that this study adds (nothing reported)."""

    id: str
    label: str
    kind: Literal["own", "fact"] = "own"
    cited: bool = False
    reference: str | None = None
    corpus: str | None = None
    emotion: str | None = None
    average: Literal["macro", "weighted"] | None = None  # how its precision, recall and f1 are averaged
    reported: dict[str, str] = {}
    bold: list[str] = []  # columns whose cell is printed in bold, or otherwise marked as best
    same_as: str | None = None  # the row whose printed numbers this added row is compared with
    base: str | None = None  # another system of paper.toml's [base.*], trained by us
    search: str | None = None  # rows of one name are one system at several settings, of which validation selects one
    change: dict[str, Any] = {}

    @property
    def runs(self) -> bool:
        """Whether this study computes the row: every row of its own kind, and a cited one whose system it trains."""
        return not self.cited or self.base is not None

    @property
    def trains(self) -> bool:
        """Whether runs give its numbers; those of a fact that this study computes are counts of the corpus."""
        return self.runs and self.kind == "own"


class Table(Strict):
    """A printed table, or one that this study adds: what its columns measure, and its rows."""

    id: str
    caption: str
    where: str
    note: str = ""
    when_named: bool = False  # a batch leaves it out unless it names it, such as what this study adds at great cost
    columns: dict[str, Column]
    row: list[Row]

    def find(self, row: str) -> Row:
        return one_of({r.id: r for r in self.row}, row, f"row of {self.id}")


class Claim(Strict):
    """A statement of the text: a number that stands in no table, or a relation of addresses, `table/row.column`.

    sentence: the sentence that several claims share; those that `each` makes of one have its id here.
    interpreted: the relation is our reading of a sentence that states none: what does not fit is a note, no error.
    """

    id: str
    where: str
    says: str
    kind: Literal["value", "difference", "relative", "sum", "equal", "best", "order", "filtered", "constant"]
    printed: str | None = None
    of: list[str] = []
    among: str | list[str] = "all"  # best: the rows that of[0] is compared with; all, cited, or ids
    lowest: bool = False  # best and order: the lower number is the better one, as for errors
    central: bool = False  # one of the few that abstract and conclusion rest on
    note: str = ""
    sentence: str = ""
    interpreted: bool = False


class Reading(Strict):
    """A point that the paper leaves open: every option sets the same leaves; the base recipe takes `default`.

    context: a change under which the options differ, where they are all the same in the base recipe.
    """

    question: str
    default: str
    why: str
    options: dict[str, dict[str, Any]]
    context: dict[str, Any] = {}


SPEED = {"bf16": 1e14, "float32": 1e13}  # operations a second of a data centre's card of 2020, some of them idle
TRAINED = 16  # bytes of a parameter that learns: itself, its gradient and the two moments of Adam, float32


class Learns(Strict):
    """An encoder that learns in the printed protocol, as `benchmarks/printed_cost.py` counts it for one utterance.

    What follows from the counts is computed, not measured, and leaves out the rest of the network.
    """

    parameters: int  # that learn
    megaflop: int  # operations, forward and backward
    megabytes: int  # kept from the forward for the backward pass

    def gigabytes(self, batch: int) -> float:
        """GPU memory of a training step on so many utterances."""
        return (TRAINED * self.parameters + 1e6 * batch * self.megabytes) / 1e9

    def seconds(self, utterances: int, precision: str) -> float:
        """Of training on so many utterances, those of all epochs together, on one card."""
        return 1e6 * self.megaflop * utterances / SPEED[precision]


class Substitute(Strict):
    """What stands in for a part of the printed protocol that a data root or a machine lacks: a change of the recipe.

    instead_of: what is printed, what it takes, and what is stored instead. Where the change names another array of the
    modality, a root without the printed one gets the substitute by itself; any other is taken when it is asked for.
    always: the other systems (`Paper.base`) that have it on every root. learned: the name among `Paper.learned` of the
    printed array, whose encoder is then a row of its own. weights: the leaf, of that row or of the base recipe, that
    names the pretrained weights of the printed protocol. learns: what its encoder costs.
    """

    instead_of: str
    modality: Literal["text", "audio", "visual"]
    always: list[str] = []
    learned: str = ""
    weights: str = ""
    learns: Learns | None = None
    change: dict[str, Any]


class Learned(Strict):
    """Arrays that an encoder learns, one for each seed and fold (`merlib.declarations.learned`).

    rows: encoders, as table/row; a root takes the first whose own array it has. parts: so many encoders are fitted
    without the dialogues that they encode; 0: one, on all that trains. seen: instead, every utterance has the mean of
    these encoders, all but one of which have seen its label. tokens: the states of tokens, not a vector.
    """

    rows: list[str]
    parts: int = 0
    seen: bool = False
    tokens: bool = False


Stated = tuple[Any, str]  # a value, or values by corpus, and its source


class PrintedOn(Strict):
    """What a paper's printed scores were measured with, as far as it says.

    The modalities stand in the recipe (`data.modalities`, those of a column or row). text, audio, visual: a regular
    expression that the passport of an array of the same encoder matches. learns: the modalities whose encoder was
    fine-tuned. split: as `protocol.split`. test: utterances that test. selected: by what the epoch was, `val`, `test`
    or `unstated`. redrawn: the paper's test utterances are another sample than ours, since it does not name them.
    """

    text: Stated | None = None
    audio: Stated | None = None
    visual: Stated | None = None
    learns: Stated | None = None
    split: Stated | None = None
    test: Stated | None = None
    selected: Stated | None = None
    redrawn: Stated | None = None

    def on(self, corpus: str) -> dict[str, Any]:
        """The values for one corpus, without those that the paper does not give."""
        stated = {name: leaf[0] for name, leaf in self if leaf}
        by_corpus = {name: value.get(corpus) if isinstance(value, Mapping) else value for name, value in stated.items()}
        return {name: value for name, value in by_corpus.items() if value is not None}


class Work(Strict):
    """A work that is cited, with the fields of BibTeX; authors are joined by `and`.

    corpora: the ids of the corpora that it describes. describes: a regular expression that descriptions of features by
    this encoder match.
    """

    authors: str
    title: str
    journal: str = ""
    booktitle: str = ""
    volume: str = ""
    number: str = ""
    pages: str = ""
    year: str = ""
    doi: str = ""
    corpora: list[str] = []
    describes: str = ""


class Drawing(Strict):
    """A network in boxes: columns of box labels from left to right, and arrows `[from, to]` between two labels."""

    columns: list[list[str]]
    arrows: list[tuple[str, str]]


class Paper(Strict):
    """A paper. One without a recipe can be audited, and nothing else.

    published: journal, booktitle, year and DOI, as far as its copy prints them. references: the number of a work in its
    own list -> the key of that work (`merlib.declarations.works`).
    idea: what it proposes, in our words.
    """

    id: str
    title: str
    name: str = ""  # of the network that it proposes, as pictures and pages name it
    authors: str = ""
    code: str = ""
    published: dict[Literal["journal", "booktitle", "year", "doi"], str] = {}
    references: dict[str, str] = {}
    idea: list[str] = []
    drawing: Drawing | None = None
    corpora: list[str] = ["corpus"]
    facts: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    readings: dict[str, Reading] = {}
    substitute: dict[str, Substitute] = {}
    learned: dict[str, Learned] = {}
    base: dict[str, dict[str, Any]] = {}
    shares: dict[str, list[str]] = {}
    printed_on: PrintedOn = PrintedOn()
    twin: dict[str, Any] = {}
    twin_media: dict[str, Any] = {}
    twin_media_arrays: list[str] = []  # corpora whose arrays in twin_media have this paper's settings
    supports: dict[str, dict[str, PositiveInt]] = {}  # corpus -> test utterances of each class, as the paper says
    tables: dict[str, Table]
    claims: list[Claim] = []

    __hash__ = object.__hash__  # declarations are read once and never change, so that what follows from them is cached

    def flat(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """Dotted name -> value, from sections of leaves or from a change of them."""
        return flat(tree, self.corpora)

    def table(self, name: str) -> Table:
        return one_of(self.tables, f"table{name}" if name.isdigit() else name, f"table of {self.id}")

    def row_at(self, address: str) -> Row:
        """The row of an address within the paper, table/row."""
        table, _, row = address.partition("/")
        return self.table(table).find(row)

    def row_of(self, cell: "Cell") -> Row | None:
        """The row of a cell; None where its number stands in no table."""
        return self.tables[cell.table].find(cell.row) if cell.table in self.tables else None

    def tables_of_batch(self, names: Sequence[str] = ()) -> list[str]:
        """Those of the named tables that the paper has; without names all but those that are `when_named`."""
        return [name for name, table in self.tables.items() if (name in names if names else not table.when_named)]


class Cell(Strict):
    """One printed number, or one cell of a row that this study adds (`printed` is None)."""

    paper: str
    table: str
    row: str
    column: str
    printed: str | None
    kind: Literal["own", "cited", "fact", "added"]
    corpus: str | None
    metric: str
    emotion: str | None = None
    modalities: str | None = None
    fold: int | str | None = None
    unit: Literal["percent", "fraction", "count"] = "percent"

    @property
    def address(self) -> str:
        return f"{self.paper}/{self.table}/{self.row}"
