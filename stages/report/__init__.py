"""Stage `report`: the page with all 18 tasks, and the headline numbers (all tasks)."""
