"""What every model file holds: chapters, the facts of each, what tells one that is missing.

The right-hand side of each chapter is what it serves. Of the US guidance (SR 26-2, OCC Bulletin
2026-13) it names themes, of the EU's AI Act (Regulation (EU) 2024/1689) articles and points.
"""

from dataclasses import dataclass
from typing import Final

from server.model_file.shapes import Rules

OWNER: Final = "its owner's word, in the file of --facts"
EVALUATED: Final = "an evaluation: let the run finish one"
FINISHED: Final = "the end of the run: resume it, or let it finish"
JOURNAL: Final = "a journal: a deployed run keeps one, fedprune-server start"
RELEASED: Final = (
    "a release of a deployed run: fedprune-server release offer, then write the model file anew"
)
ENOUGH: Final = 5
"""Seeds below which their spread is no pass: that of two says next to nothing of all seeds'."""

COMPARED: Final = f"fedprune-sim compare PLAN --seeds {ENOUGH} --out DIR, then --other-seeds DIR"
GROUPED: Final = "evaluation.groups or evaluation.pools in the plan of another run"
BASELINES: Final = "fedprune-sim run PLAN with its baselines, or fedprune-sim compare"
UNPRUNED: Final = "fedprune-sim run of the plan with pruning.sparsity = 0, then --dense DIR"
AUDITED: Final = "fedprune-sim audit PLAN --out DIR, then --audit DIR"
ALWAYS: Final = "nothing: every run tells it"
INSTALLED: Final = "an installed fedprune (make setup), or a release, which keeps it with the model"

BLIND: Final = 0.05
"""What noise may hide of a fall, a gap or an error, two standard deviations of it, in a pass."""

TESTING: Final = (
    "What the run's records say to each test. Bounds are the program's own unless the owner set"
    " them; no regulator set any. What lies beyond a bound by no more than noise explains passes,"
    f" unless the noise hides more than {BLIND:g}: then nobody has seen whether it holds, and it"
    " needs attention. What could not be tested names what it needs."
)

MAPPING: Final = (
    "Which chapter serves which rule, for whoever files it. It is a mapping, not legal advice, and"
    " no claim of conformity. The US guidance (SR 26-2, OCC Bulletin 2026-13, 17 April 2026) is"
    " named by its themes, not by its paragraphs. The EU's AI Act (Regulation (EU) 2024/1689) lists"
    " systems that score the creditworthiness of natural persons as high risk, fraud detection"
    " apart (Annex III, 5(b)). What it also asks for and no run can tell, is not here: the risk and"
    " quality management systems (Articles 9 and 17), the standards applied and the declaration of"
    " conformity (Annex IV, 7 and 8)."
)


@dataclass(frozen=True, slots=True)
class Slot:
    """A fact that stands in every model file, told or missing."""

    key: str
    label: str
    remedy: str = ALWAYS


@dataclass(frozen=True, slots=True)
class Part:
    """A chapter before anything is known."""

    key: str
    title: str
    words: str
    slots: tuple[Slot, ...]
    rules: Rules


CHAPTERS: Final[tuple[Part, ...]] = (
    Part(
        "identity",
        "The model",
        "Which model this is, by what nobody can confuse it with another by.",
        (
            Slot("name", "plan"),
            Slot("kind", "kind of run"),
            Slot("complete", "rounds finished"),
            Slot("run", "run", JOURNAL),
            Slot("plan_hash", "plan, SHA-256"),
            Slot("roster_hash", "roster, SHA-256", JOURNAL),
            Slot("model_hash", "model.safetensors, SHA-256", "a finished round: start the run"),
            Slot("released_on", "released on", RELEASED),
        ),
        Rules(
            us="governance and controls: model inventory",
            eu="Annex IV, 1(a) and (c)",
        ),
    ),
    Part(
        "purpose",
        "Purpose and limits",
        "What the score means follows from the plan. What it is for, only its owner can say.",
        (
            Slot("outcome", "predicts"),
            Slot("output", "gives"),
            Slot("intended_purpose", "intended purpose", OWNER),
            Slot("decisions", "decisions it supports", OWNER),
            Slot("users", "who uses it", OWNER),
            Slot("population", "whom it is meant for", OWNER),
            Slot("out_of_scope", "what it is not for", OWNER),
            Slot("owner", "owner", OWNER),
            Slot("developer", "developer", OWNER),
            Slot("validator", "validator", OWNER),
            Slot("materiality", "materiality", OWNER),
            Slot("risk_class", "class of risk", OWNER),
            Slot("oversight", "human oversight", OWNER),
        ),
        Rules(
            us="model development and use: purpose, intended use; materiality",
            eu="Articles 13(3) and 14; Annex IV, 1(a)",
        ),
    ),
    Part(
        "data",
        "Data and schema",
        "What a table must hold, declared in public before a row was read. Nobody but an"
        " institution knows its rows, nor how many there are; sizes are the rounded ones that it"
        " declares.",
        (
            Slot("schema", "schema"),
            Slot("schema_hash", "schema's hash"),
            Slot("inputs", "inputs of the model"),
            Slot("columns", "columns"),
            Slot("ratios", "ratios"),
            Slot("protected", "protected columns"),
            Slot("duplicates", "duplicate rows"),
            Slot("split", "split"),
            Slot("institutions", "institutions"),
            Slot("data_source", "where the data are from", OWNER),
            Slot("data_period", "period of the data", OWNER),
            Slot("outcome_window", "outcome and its window", OWNER),
        ),
        Rules(
            us="model development and use: data quality and relevance",
            eu="Article 10; Annex IV, 2(d)",
        ),
    ),
    Part(
        "training",
        "Training",
        "How the weights came about.",
        (
            Slot("architecture", "architecture"),
            Slot("weights", "weights before pruning", FINISHED),
            Slot("rounds", "rounds"),
            Slot("lost", "rounds lost", "a finished round: start the run"),
            Slot("batches", "batches"),
            Slot("learning_rate", "learning rate", FINISHED),
            Slot("clipping", "clipping norm"),
            Slot("optimiser", "optimiser"),
            Slot("aggregation", "aggregation"),
            Slot("attendance", "who took part", JOURNAL),
        ),
        Rules(us="model development and use: design, method", eu="Annex IV, 2(a) to (c)"),
    ),
    Part(
        "privacy",
        "Privacy",
        "What the model can tell of a record, and what left an institution.",
        (
            Slot("planned_epsilon", "planned epsilon"),
            Slot("spent_epsilon", "epsilon spent", FINISHED),
            Slot("epsilon_if_others_collude", "epsilon if all others collude", FINISHED),
            Slot("delta", "delta"),
            Slot("unit", "unit"),
            Slot("held_by_many", "held by many"),
            Slot("accountant", "accountant"),
            Slot("noise", "noise"),
            Slot("noise_multiplier", "noise multiplier", FINISHED),
            Slot("evaluation", "evaluation"),
            Slot("leaves", "leaves an institution"),
            Slot("server_sees", "the server sees"),
            Slot("members_see", "members see"),
            Slot("audit", "attacks on the training code", AUDITED),
        ),
        Rules(
            us="model development and use; governance and controls",
            eu="Article 15(5); Annex IV, 2(h)",
        ),
    ),
    Part(
        "pruning",
        "Pruning, and what it costs in quality",
        "Models of earlier rounds are denser and less trained too: a fall along the run is not"
        " pruning's alone, nor is a rise. A dense model trained alike tells them apart.",
        (
            Slot("planned", "planned"),
            Slot("sparsity", "share of weights gone", "a finished round: start the run"),
            Slot("kept", "weights kept", "a finished round: start the run"),
            Slot("layers", "each layer", "a finished round: start the run"),
            Slot("unread", "inputs that no weight reads", "a finished round: start the run"),
            Slot("forms", "each form", FINISHED),
            Slot("rivals", "beside dense and logistic", BASELINES),
            Slot("steps", "at each evaluation", EVALUATED),
            Slot("group_steps", "ROC-AUC of groups, first and last evaluation", GROUPED),
            Slot("dense", "beside an unpruned run", UNPRUNED),
        ),
        Rules(
            us="model development and use: testing, limitations",
            eu="Annex IV, 2(b) and (g)",
        ),
    ),
    Part(
        "performance",
        "Quality and calibration",
        "From sums over all institutions that carry noise; its standard deviation stands beside"
        " each figure, the chance of drawing these rows does not.",
        (
            Slot("source", "counted on", EVALUATED),
            Slot("count_noise", "noise on each count, rows", EVALUATED),
            Slot("metrics", "figures", EVALUATED),
            Slot("observed", "share of positives", EVALUATED),
            Slot("expected", "mean score", EVALUATED),
            Slot("bands", "calibration by band of the score", EVALUATED),
        ),
        Rules(
            us="model validation and monitoring: outcomes analysis",
            eu="Articles 13(3)(b) and 15(1) to (3); Annex IV, 2(g), 3 and 4",
        ),
    ),
    Part(
        "groups",
        "Groups and pools",
        "Protected groups and pools of institutions that the plan counts apart. Of a single"
        " institution nobody else knows a figure.",
        (
            Slot("counted", "counted apart", GROUPED),
            Slot("figures", "figures", GROUPED),
            Slot("worst", "worst when noise is allowed for", GROUPED),
            Slot("unread", "not told apart from noise", GROUPED),
        ),
        Rules(
            us="model validation and monitoring: outcomes analysis",
            eu="Articles 10(2)(f) and (g) and 13(3)(b); Annex IV, 2(g) and 3",
        ),
    ),
    Part(
        "stability",
        "Stability over seeds",
        "The same plan again with other weights to begin with, other batches and other noise; exact"
        " ROC-AUC on test rows, which only simulations can see.",
        (
            Slot("seeds", "seeds", COMPARED),
            Slot("models", "ROC-AUC over seeds", COMPARED),
            Slot("by_seed", "ROC-AUC by seed", COMPARED),
        ),
        Rules(
            us="model validation and monitoring: robustness",
            eu="Article 15(4); Annex IV, 2(g)",
        ),
    ),
    Part(
        "decisions",
        "Members' decisions",
        "Each institution tests a release on rows of its own and says yes or no. Its figures and"
        " its reasons stay with it.",
        (
            Slot("release", "release", RELEASED),
            Slot("release_hash", "manifest's hash", RELEASED),
            Slot("charter", "charter", RELEASED),
            Slot("operators", "signed by operators", RELEASED),
            Slot("state", "state", RELEASED),
            Slot("quorum", "sign-offs needed", RELEASED),
            Slot("signed", "signed off", RELEASED),
            Slot("objected", "objected", RELEASED),
            Slot("silent", "not heard", RELEASED),
            Slot("revoked", "revoked before", RELEASED),
            Slot("withdrawn", "withdrawn", RELEASED),
        ),
        Rules(
            us="governance and controls: roles, effective challenge",
            eu="Annex IV, 2(g)",
        ),
    ),
    Part(
        "limits",
        "Known limits",
        "The first list follows from the run's own records; the second is the owner's.",
        (
            Slot("known", "of this run"),
            Slot("owner_limits", "named by the owner", OWNER),
        ),
        Rules(
            us="model development and use: limitations and assumptions",
            eu="Article 13(3)(b), input to Article 9; Annex IV, 3",
        ),
    ),
    Part(
        "monitoring",
        "Monitoring advice",
        "An institution scores its own rows and counts them exactly: that costs no budget. What it"
        " can tell from chance depends on how many rows it has, and on the noise of the figures"
        " here that it compares them with. All bounds are two standard deviations, or 95 %.",
        (
            Slot("advice", "advice", EVALUATED),
            Slot("reference", "scores to compare with", EVALUATED),
            Slot("stability_index", "population stability index by chance alone", EVALUATED),
            Slot("fall", "smallest fall of ROC-AUC that shows", EVALUATED),
            Slot("change", "labelled rows of a band that show a change by half", EVALUATED),
            Slot("watched", "groups that can be watched", GROUPED),
            Slot("review", "when it is reviewed", OWNER),
            Slot("contact", "whom to tell", OWNER),
        ),
        Rules(
            us="model validation and monitoring: ongoing monitoring",
            eu="Articles 12 and 72; Annex IV, 9",
        ),
    ),
    Part(
        "materials",
        "Bill of materials",
        "What the software was made of that made the model.",
        (
            Slot("bill_of", "whose", INSTALLED),
            Slot("bill", "packages", INSTALLED),
        ),
        Rules(
            us="governance and controls: vendor and third-party products",
            eu="Annex IV, 1(c) and 2(a)",
        ),
    ),
    Part(
        "reproduction",
        "Reproduction",
        "What ran, and the files that it left, by their hashes.",
        (
            Slot("versions", "versions", FINISHED),
            Slot("seed", "seed"),
            Slot("files", "files"),
            Slot("again", "to do it again"),
        ),
        Rules(
            us="governance and controls: documentation",
            eu="Articles 11 and 12; Annex IV, 2(g)",
        ),
    ),
)
