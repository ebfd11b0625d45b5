"""Stage `report`: the page with all 18 tasks."""
