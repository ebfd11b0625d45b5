"""What `params.yaml` may not say all at once, though each value is fine alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from src.core.errors import invalid

if TYPE_CHECKING:
    from src.core.params import Params


def check_contradictions(params: Params) -> None:
    """Refuses values that are fine alone but not together.

    Raises:
        InputError: naming the keys, what they would have to be, and what they are.
    """
    frame = params.prepare
    for key, size in (("height", frame.height), ("padded_width", frame.padded_width)):
        if size % 32:
            raise invalid("params.yaml", f"a multiple of 32 for 'prepare.{key}' (the backbone's stride)", size)
    if frame.width > frame.padded_width or (frame.padded_width - frame.width) % 2:
        text = "'prepare.padded_width' at least 'prepare.width' and an even number above it"
        raise invalid("params.yaml", text, f"{frame.padded_width} and {frame.width}")
    for name, section in (("rpn", params.rpn), ("backbone", params.backbone)):
        if section.bg_iou_thresh > section.fg_iou_thresh:
            found = f"{section.bg_iou_thresh} and {section.fg_iou_thresh}"
            raise invalid("params.yaml", f"'{name}.bg_iou_thresh' at most '{name}.fg_iou_thresh'", found)
    if params.features.proposals > params.proposals.post_nms_top_n:
        found = f"{params.features.proposals} and {params.proposals.post_nms_top_n}"
        raise invalid("params.yaml", "'features.proposals' at most 'proposals.post_nms_top_n'", found)
    if params.data.source != "emoji" and not params.data.root:
        text = f"a folder for 'data.root' with data.source={params.data.source}"
        raise invalid("params.yaml", text, "an empty text")
