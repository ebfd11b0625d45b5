"""Pictures with annotations in COCO's format."""
