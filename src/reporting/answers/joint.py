"""Task 11: alternating and end-to-end training, and what this run's own joint training did."""

from __future__ import annotations

from typing import Final

import pandas as pd

from src.core.params import JointParams
from src.figures.base import term_name
from src.reporting.answers.answer import Answer, Table
from src.reporting.answers.fine_tuning import where_measured
from src.reporting.answers.studies import with_study
from src.reporting.formatting import change, count, duration, listing, percent, plural, score, sentence
from src.reporting.loss_curves import ALL_LOSSES, was_trained
from src.reporting.run_results import RunResults

STAGED: Final = {  # stages that train parts by themselves, or serve to, and what they do
    "backbone": "the fine-tuning",
    "features": "running backbone and RPN once over all images",
    "box_head": "the training of the box head",
    "mask_head": "the training of both heads",
}


def task_11(results: RunResults) -> Answer:
    """Both schemes; how this run's parts were trained alone and then together, and what the test losses say."""
    words = {
        "heads": _heads(results),
        "cost": _cost(results),
        "joint": _joint(results.params.joint, results.seconds.get("joint")),
        "kept": _kept(results) if was_trained(results, "joint") else "",
    }
    if not was_trained(results, "joint"):
        return with_study(Answer(words), results, "schemes")
    test = results.table("joint/test")
    results.columns("joint/test", test, *ALL_LOSSES)
    if results.params.joint.keep == "best":
        test = test[test["iteration"] <= _best(results)["iteration"]]
    answer = Answer({**words, "outcome": _outcome(test)}, tables={"losses": _table(test)})
    return with_study(answer, results, "schemes")


def _kept(results: RunResults) -> str:
    """Which weights were kept, and whether the training ended early; empty where nothing was chosen."""
    joint = results.params.joint
    if joint.keep == "last" and not joint.patience:
        return ""
    epochs, whole = int(_last_turn(results)["epoch"].max()), joint.epochs * _turns(joint)
    ended = "Training ran in full"
    if epochs < whole:
        ended = f"Training ended after epoch {count(epochs)} of {count(whole)}"
    if joint.keep == "last":
        return f"{ended}; its last weights were kept."
    best = _best(results)
    number = count(results.value("ingest", "validation_images"))
    return (
        f"{ended}; the weights after iteration {count(int(best['iteration']))} were kept, whose weighted losses on the "
        f"{number} validation images were the lowest, {score(best['total'])}."
    )


def _best(results: RunResults) -> pd.Series:
    """The row of the lowest weighted losses on validation images, in the last turn."""
    measured = results.table("joint/validation")
    results.columns("joint/validation", measured, "iteration", "total")
    first = int(_last_turn(results)["iteration"].min())
    offered = measured[measured["iteration"] >= (first if first > 1 else 0)]
    return offered.loc[offered["total"].idxmin()]


def _last_turn(results: RunResults) -> pd.DataFrame:
    """The iterations of the last turn; end to end there is one."""
    train = results.table("joint/train")
    results.columns("joint/train", train, "iteration", "epoch")
    joint = results.params.joint
    return train[train["epoch"] > joint.epochs * (_turns(joint) - 1)]


def _turns(joint: JointParams) -> int:
    return 2 * joint.rounds + 1 if joint.scheme == "alternating" else 1


def _heads(results: RunResults) -> str:
    """Whether the heads were trained on cached features, and what that costs in recall."""
    box, mask = was_trained(results, "box_head"), was_trained(results, "mask_head")
    if not (box or mask):
        return "The heads are not trained on cached features in this run (box_head.epochs and mask_head.epochs are 0)."
    recall = results.value("backbone", "proposal_recall")
    reach = "an unknown share of the objects, as recall was not measured"
    if recall is not None:
        reach = f"{percent(recall)} of the objects{where_measured(results)} at IoU 0.5 (task 8)"
    learn = "the heads learn" if mask else "the box head learns"
    return (
        f"Then body, pyramid and RPN are frozen and run once, and {learn} from the cached features. The price is the "
        f"one named above: objects that the frozen RPN never proposes are lost to the heads, and its "
        f"{count(results.params.proposals.post_nms_top_n)} proposals cover {reach}."
    )


def _cost(results: RunResults) -> str:
    """What the parts cost one by one, in this run's own seconds."""
    trained = [stage for stage in ("backbone", "box_head", "mask_head") if was_trained(results, stage)]
    cached = "box_head" in trained or "mask_head" in trained
    stages = [stage for stage in STAGED if stage in trained or (cached and stage == "features")]
    if not stages:
        return ""
    if not all(stage in results.seconds for stage in stages):
        return "How long this took is not known for this run."
    return f"This took {listing([f'{duration(results.seconds[stage])} for {STAGED[stage]}' for stage in stages])}."


def _joint(joint: JointParams, seconds: float | None) -> str:
    """Which scheme the stage `joint` followed."""
    if joint.scheme == "none":
        return "The parts are then put together as they are (joint.scheme: none), so no mask has taught the pyramid."
    time = f", in {duration(seconds)}" if seconds is not None else ""
    body = "" if joint.trainable_layers else " The body under the pyramid stayed as it was."
    if joint.scheme == "end_to_end":
        return (
            f"The stage joint then trained all parts end to end for {plural(joint.epochs, 'epoch')}{time}: in every "
            f"step the RPN proposes anew, and the weighted sum of all five losses trains "
            f"{listing(['heads', 'RPN', 'pyramid', *_body(joint)])}.{body}"
        )
    each, last = "first", "at the end"
    if joint.rounds > 1:
        each, last = f"in each of {count(joint.rounds)} rounds", "after the last round"
    others = listing(["heads", "pyramid", *_body(joint)])
    return (
        f"The stage joint then trained the parts in turns{time}: {each} the RPN alone, then {others} on its proposals, "
        f"and {last} the RPN once more. Each turn lasted {plural(joint.epochs, 'epoch')}.{body}"
    )


def _body(joint: JointParams) -> list[str]:
    """The part of the body that trains, and how fast; none where all of it is frozen."""
    if not joint.trainable_layers:
        return []
    rate = f"(at {joint.backbone_rate_factor:g} of the learning rate)"
    stages = {1: "the deepest stage of the body", 5: "the whole body"}
    return [f"{stages.get(joint.trainable_layers, f'the {joint.trainable_layers} deepest stages of the body')} {rate}"]


def _outcome(test: pd.DataFrame) -> str:
    """What joint training did to each loss on the test images."""
    changes = {term: change(test[term].iloc[0], test[term].iloc[-1], "score") for term in ALL_LOSSES}
    others = [term_name(term) for term, text in changes.items() if not text.startswith("fell")]
    told = f"On test images {listing([f'{term_name(term)} {text}' for term, text in changes.items()])}."
    if not others:
        return f"{told} All five fell: no part paid for another."
    if len(others) == len(ALL_LOSSES):
        return f"{told} None fell: what was learned on top belongs to the training images."
    return f"{told} {sentence(listing(others))} did not fall."


def _table(test: pd.DataFrame) -> Table:
    rows = [[term_name(term), score(test[term].iloc[0]), score(test[term].iloc[-1])] for term in ALL_LOSSES]
    head = ("loss on test images", "parts as they came", "after joint training")
    return Table(head, rows, "The five losses, unweighted, before and after joint training.")
