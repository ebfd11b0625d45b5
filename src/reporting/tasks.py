"""The assignment's 18 tasks: number, title, and the question in brief."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Task:
    """One task. `question` is the assignment's, in our words."""

    number: int
    title: str
    question: str


@dataclass(frozen=True)
class Part:
    """One part of the assignment: its template's name, its title, its tasks."""

    template: str
    title: str
    tasks: tuple[Task, ...]


PARTS: Final = (
    Part(
        "part_a",
        "Region proposal network",
        (
            Task(1, "The backbone", "Build five convolutions with batch normalization and four poolings."),
            Task(
                2,
                "Scales, shapes, anchors",
                "Make histograms of the boxes' scales and aspect ratios, take the anchors from their modes, and say "
                "what the histograms let one expect of the performance.",
            ),
            Task(
                3,
                "Ground truth for the proposals",
                "Label each anchor: object, background, or neither. Anchors that cross the border are left out.",
            ),
            Task(
                4,
                "Proposal classifier",
                "Add the intermediate layer and one objectness score per location; train with binary cross entropy and "
                "plot the loss.",
            ),
            Task(
                5,
                "Receptive field",
                "How much of the image does a neuron of the intermediate layer see? Is it enough to locate the "
                "objects, very big ones too, and how does it act together with the choice of anchors?",
            ),
            Task(
                6,
                "Proposal regressor",
                "Add four outputs per location for the box relative to its anchor; train with smooth L1 on positive "
                "anchors and plot the loss.",
            ),
            Task(
                7,
                "Both losses together",
                "Train with equally weighted, equally normalized losses; plot them and their total; report the "
                "point-wise test accuracy of classifier and regressor; show positive and negative proposals.",
            ),
        ),
    ),
    Part(
        "part_b",
        "Pretrained features and RoIAlign",
        (
            Task(
                8,
                "Why fine-tune",
                "Why is fine-tuning important? Could it be skipped, since the backbone and RPN come from COCO and the "
                "data is a part of COCO? What would localization, classification and masks do then?",
            ),
            Task(
                9,
                "Preparing the images",
                "Resize with boxes and masks, normalize, pad the width so that the image stays centered; plot an image "
                "with two objects.",
            ),
            Task(
                10,
                "The pretrained model",
                "Load the weights. What does the backbone output? What does the RPN, and which losses in training? "
                "Plot some proposals on the image of task 9.",
            ),
            Task(
                11,
                "Alternating or end to end",
                "The RPN and the heads can be trained in turns, or all together from losses to input. What speaks for "
                "each, and what against?",
            ),
            Task(
                12,
                "RoIAlign",
                "Warp each proposal into a fixed grid of cells, each the mean of four bilinear samples, without "
                "rounding; vectorize it; plot the image and many of its crops.",
            ),
            Task(
                13,
                "Two stages or one",
                "Why first where and then what? Compare two-stage detectors such as Faster R-CNN with one-stage "
                "detectors such as YOLO.",
            ),
        ),
    ),
    Part(
        "part_c",
        "Classifier, regressor and masks",
        (
            Task(
                14,
                "Box head",
                "Two shared layers, then a classifier with background and a regressor for each class; ground truth "
                "and sampling of the regions; report the training curves.",
            ),
            Task(
                15,
                "From outputs to detections",
                "Decode, drop invalid boxes, suppress duplicates; report accuracy, precision and recall of the "
                "classifier; show boxes before and after the regressor. Could it ever find an object that the RPN "
                "has cut in half?",
            ),
            Task(
                16,
                "Masks",
                "Add the mask branch, train it jointly with classifier and regressor, weigh the losses if they "
                "converge at different speeds, plot each loss and the total; paste masks back bilinearly.",
            ),
            Task(
                17,
                "What was found, and what was not annotated",
                "Plot boxes, masks and confidences on test images. Find one where an object is predicted that the "
                "ground truth lacks; give its category and probability.",
            ),
            Task(18, "Pictures of one's own", "Report the output on pictures that you took or made."),
        ),
    ),
)

TASKS: Final = {task.number: task for part in PARTS for task in part.tasks}
